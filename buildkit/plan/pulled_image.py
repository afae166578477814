"""Compose the layer that a registry's image is. Pure."""

from __future__ import annotations

from buildkit.declare.stage import Stage
from buildkit.locks.pins import PinnedImage
from buildkit.plan.spec import Kind, PullImage, Spec, make_recipe, make_spec


def pull_spec(stage: Stage, image: PinnedImage, arch: str) -> Spec:
    """Return the layer that a registry's image is; ``arch`` is Debian's name."""
    recipe, key = make_recipe(Kind.IMAGE, image=image.pinned, arch=arch)
    return make_spec(stage, "image", Kind.IMAGE, recipe, key, work=PullImage(image=image, arch=arch), history=image.ref)
