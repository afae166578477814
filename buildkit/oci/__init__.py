"""Manifest, config, descriptors and composition: the image specification, pure."""
