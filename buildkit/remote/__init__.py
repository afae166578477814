"""Registries: the remote cache, pushed images, and what is attached to them."""
