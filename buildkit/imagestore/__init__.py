"""The image store: layers as trees of files, and images over them that podman and buildah run without an import."""
