"""Adapters to external tools, one per module: processes, buildah, skopeo, mmdebstrap, resolvers, indexes, GPUs."""
