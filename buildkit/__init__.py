"""buildkit composes machine-learning container images from locks (distribution ``xoe-buildkit``)."""
