"""Check a config and the streams of layers without running the image, and observations of a container. Pure."""
