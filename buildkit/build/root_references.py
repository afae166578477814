"""References of images in local storage that only serve to start containers: by key, so that none is ever moved."""

from __future__ import annotations

from buildkit.declare.project import Project
from buildkit.digest import Key, canonical_json
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Spec


def root_ref(project: Project, chain: tuple[Spec, ...]) -> str:
    """Return the reference of the root that ``chain`` makes: ``localhost/NAME/STAGE:root-KEY``."""
    key = Key.of(canonical_json([spec.key.hex for spec in chain]).encode())
    last = [spec for spec in chain if spec.is_of_root][-1]  # the images' own Python may lie on it
    return project.ref(last.name.split("/")[0], f"root-{key.short}")


def whole_ref(project: Project, composition: Composition) -> str:
    """Return the reference of a whole stage that wheels are compiled in: ``localhost/NAME/STAGE:whole-KEY``."""
    key = Key.of(canonical_json([composition.key.hex, composition.config.env]).encode())
    return project.ref(composition.stage.name, f"whole-{key.short}")


def base_ref(project: Project, image: Spec) -> str:
    """Return the reference of an image of a registry, config and all, on which a Containerfile is built."""
    return project.ref(image.name.split("/")[0], f"base-{image.key.short}")
