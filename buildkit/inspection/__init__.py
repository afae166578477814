"""Inspect stages, images and model files without building anything."""
