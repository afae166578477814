"""What local storage holds, by buildah and skopeo: images and containers, whoever made them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from buildkit.errors import ToolError
from buildkit.tools.process import Command, run
from buildkit.tools.skopeo import skopeo_argv

_UNITS = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image: its id (64 digits), its names, and about how many bytes its layers have, shared or not."""

    id: str
    names: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContainer:
    """A container: of buildah's own kind (``working``), or one that podman knows; and the id of its image."""

    name: str
    image: str
    working: bool


def list_images() -> tuple[StoredImage, ...]:
    """Every image that can be removed (there may be stores that are only read). Raises ToolError or MissingTool."""
    argv = ("buildah", "images", "--all", "--no-trunc", "--json")
    return tuple(
        StoredImage(
            id=image["id"].removeprefix("sha256:"), names=tuple(image["names"] or ()), size=_parse_size(image["size"])
        )
        for image in _ask(argv, "listing the images of local storage")
        if not image.get("readonly")
    )


def list_containers() -> tuple[StoredContainer, ...]:
    """Every container. Raises ToolError or MissingTool."""
    argv = ("buildah", "containers", "--all", "--json")
    return tuple(
        StoredContainer(name=one["containername"], image=one["imageid"], working=one["builder"])
        for one in _ask(argv, "listing the containers of local storage")
    )


def find_config(image: str) -> dict[str, Any] | None:
    """The config of an image by its id; None where it is gone."""
    argv = (*skopeo_argv(), "inspect", "--raw", "--config", f"containers-storage:@{image}")  # raw: HEALTHCHECK stays
    finished = run(Command(argv=argv, accept=(0, 1, 2), what=f"looking image {image[:12]} up"))
    if finished.code != 0:
        return None
    config: dict[str, Any] = json.loads(finished.stdout)
    return config


def remove_name(name: str) -> bool:
    """Take a name from an image, and remove the image if that was its only one; whether it went."""
    return _done(("buildah", "rmi", "--", name))


def remove_image(image: str) -> bool:
    """Remove an image by its id, whatever its names; whether it went: one that a container uses stays.

    Layers that other images have stay with these. (``buildah rmi`` would also remove images that it descends from.)
    """
    return _done((*skopeo_argv(), "delete", f"containers-storage:@{image}"))


def _ask(argv: tuple[str, ...], what: str) -> list[dict[str, Any]]:
    answer = json.loads(run(Command(argv=argv, what=what)).stdout or b"null") or []
    if not isinstance(answer, list):
        raise ToolError(f"{what}: not a list")
    return answer


def _done(argv: tuple[str, ...]) -> bool:
    return run(Command(argv=argv, accept=(0, 1, 2, 125), what=f"`{' '.join(argv)}`", is_cleanup=True)).code == 0


def _parse_size(text: str) -> int:
    """``5.15 MB``, as buildah says it."""
    found = re.fullmatch(r"([0-9.]+) ?([kKMGT]?B)", text)
    return round(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
