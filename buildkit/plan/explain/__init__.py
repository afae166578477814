"""Find the causes for building a layer by comparing recipes. Pure."""
