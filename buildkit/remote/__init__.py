"""Registries: the remote cache, pushed images, and their attachments."""
