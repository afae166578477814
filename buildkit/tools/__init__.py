"""One foreign thing a file: processes, buildah, skopeo, mmdebstrap, resolvers, indexes, GPUs."""
