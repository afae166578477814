"""Images and containers in local storage, through buildah and skopeo, regardless of what made them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from buildkit.errors import ToolError
from buildkit.lazy_dataclass import dataclass
from buildkit.tools.process import Command, find_tool, run
from buildkit.tools.skopeo import skopeo_argv
from buildkit.tools.storage_settings import check_settings

_GONE = "not known"  # image, layer or container: ErrImageUnknown and its like of containers/storage
_LISTINGS = 5
_UNITS = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image: its id (64 digits), its names, and the approximate bytes of its layers, shared or not."""

    id: str
    names: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContainer:
    """A container and the id of its image; ``working`` if buildah made it."""

    name: str
    image: str
    working: bool


def list_images() -> tuple[StoredImage, ...]:
    """Return every removable image (there may be read-only stores). Raises BuildError."""
    argv = ("buildah", "images", "--all", "--no-trunc", "--json")
    return tuple(
        StoredImage(
            id=image["id"].removeprefix("sha256:"), names=tuple(image["names"] or ()), size=_parse_size(image["size"])
        )
        for image in _ask(argv, "listing the images of local storage")
        if not image.get("readonly")
    )


def find_names(image: str) -> tuple[str, ...]:
    """Return the names that an image has in the user's own storage, by its id. Raises BuildError."""
    return next((found.names for found in list_images() if found.id == image), ())


def list_containers() -> tuple[StoredContainer, ...]:
    """Return every container. Raises BuildError."""
    argv = ("buildah", "containers", "--all", "--json")
    return tuple(
        StoredContainer(name=entry["containername"], image=entry["imageid"], working=entry["builder"])
        for entry in _ask(argv, "listing the containers of local storage")
    )


def find_graph_root() -> tuple[Path, str]:
    """Return the folder of local storage, and the driver that its files are named by.

    Raises BuildError.
    """
    what = "looking for local storage"
    check_settings()
    answer = json.loads(run(Command(argv=("buildah", "info"), what=what)).stdout)
    try:
        return Path(answer["store"]["GraphRoot"]), str(answer["store"]["GraphDriverName"])
    except (KeyError, TypeError) as error:
        raise ToolError(f"{what}: buildah did not say where it is") from error


def find_config(image: str) -> dict[str, Any] | None:
    """Return the config of an image by its id, or None if it is gone."""
    argv = (*skopeo_argv(), "inspect", "--raw", "--config", f"containers-storage:@{image}")  # --raw keeps HEALTHCHECK
    finished = run(Command(argv=argv, accept=(0, 1, 2), what=f"looking image {image[:12]} up"))
    if finished.code != 0:
        return None
    config: dict[str, Any] = json.loads(finished.stdout)
    return config


def remove_name(name: str) -> bool:
    """Remove a name of an image, and the image with its last name; return whether it succeeded."""
    return _done(("buildah", "rmi", "--", name))


def untag(name: str) -> None:
    """Remove a name of an image in the user's own storage. The image stays, if there is a podman to do so."""
    podman = ("podman", "untag", name, name) if find_tool("podman") else ("buildah", "rmi", "--", name)
    run(Command(argv=podman, accept=(0, 1, 2, 125), what=f"untagging {name}"))


def remove_image(image: str) -> bool:
    """Remove an image by its id, with all names; return whether it succeeded: one that a container uses stays.

    Layers shared with other images stay. (``buildah rmi`` would also remove images that it descends from.)
    """
    return _done((*skopeo_argv(), "delete", f"containers-storage:@{image}"))


def _ask(argv: tuple[str, ...], what: str) -> list[dict[str, Any]]:
    check_settings()
    answer = json.loads(_ask_again(Command(argv=argv, what=what)) or b"null") or []
    if not isinstance(answer, list):
        raise ToolError(f"{what}: not a list")
    return answer


def _ask_again(command: Command) -> bytes:
    """Return what a listing says: buildah fails if another process removes what it lists before it has looked at all.

    Raises ToolError if it is so each time.
    """
    for _ in range(_LISTINGS - 1):
        try:
            return run(command).stdout
        except ToolError as error:
            if _GONE not in error.output:
                raise
    return run(command).stdout


def _done(argv: tuple[str, ...]) -> bool:
    return run(Command(argv=argv, accept=(0, 1, 2, 125), what=f"`{' '.join(argv)}`", is_cleanup=True)).code == 0


def _parse_size(text: str) -> int:
    """Parse a size as buildah prints it (``5.15 MB``)."""
    found = re.fullmatch(r"([0-9.]+) ?([kKMGT]?B)", text)
    return round(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
