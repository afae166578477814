"""The OCI image specification as values: blobs, images, manifests and references. Pure."""
