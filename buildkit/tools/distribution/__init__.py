"""A client for registries (OCI distribution specification 1.1), with the settings of podman, skopeo and Docker."""
