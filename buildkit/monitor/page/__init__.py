"""The monitor's own page: one document without foreign parts, and the stream of figures that it shows. Pure."""
