"""Start and end environments with podman. What runs is found by labels, never remembered."""
