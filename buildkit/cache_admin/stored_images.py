"""Find and remove images and working containers that builds left in local storage.

Only images of this project count: those with a name that builds give (``localhost/NAME/STAGE:root-KEY``), and a config
whose history buildkit wrote. Images with another name, or that a container uses, or of another project, stay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit.errors import BuildError
from buildkit.events import Emit, Note
from buildkit.oci.image import EPOCH, TITLE
from buildkit.store.leases import Leases
from buildkit.tools import storage
from buildkit.tools.buildah import remove_containers
from buildkit.tools.process import find_tool
from buildkit.tools.storage import StoredContainer, StoredImage
from buildkit.worker_pool import WorkerPool

_OURS = "buildkit"  # the comment of a history line (oci/image.py)
_BASE_IMAGE = r"localhost/{project}/[^/:]+:(root|whole|base)-[0-9a-f]{{12}}"
_CONTAINER = re.compile(r"buildkit-[0-9]+-[0-9a-f]{12}")  # tools/buildah.py
_WORKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Leftovers that can be removed: working containers, images, and names of images that have other names too."""

    containers: tuple[str, ...] = ()
    images: tuple[StoredImage, ...] = ()
    names: tuple[str, ...] = ()


def find_leftovers(project: str, needed: Iterable[str], leases: Leases, emit: Emit) -> Leftovers:
    """Return the leftovers in local storage; ``needed`` are names of images that containers start from.

    Without the tools that read it, emit a note and return none.
    """
    if not (find_tool("buildah") and find_tool("skopeo")):
        emit(Note(text="local storage is not looked at: buildah or skopeo is not installed"))
        return Leftovers()
    try:
        images, containers = storage.list_images(), storage.list_containers()
        configs = _configs([image.id for image in images if is_candidate(image, project, frozenset(needed))])
    except BuildError as error:
        emit(Note(text=f"local storage is not looked at: {error.in_a_line()}", warning=True))
        return Leftovers()
    working = [container.name for container in containers if container.working and _CONTAINER.fullmatch(container.name)]
    return choose_leftovers(images, containers, configs, project, needed, find_dead(working, leases))


def find_dead(containers: Iterable[str], leases: Leases) -> frozenset[str]:
    """Return the containers of dead builds: without a held lease, and without a process of their number."""
    abandoned: list[str] = []

    def look(names: Sequence[str]) -> tuple[str, ...]:
        abandoned.extend(names)
        return ()  # no lease is dropped

    leases.sweep(look)
    leased = {path.name for path in leases.folder.glob("*")} - set(abandoned)
    return frozenset(name for name in containers if name in abandoned or (name not in leased and not _is_alive(name)))


def choose_leftovers(
    images: Iterable[StoredImage],
    containers: Iterable[StoredContainer],
    configs: Mapping[str, Mapping[str, Any]],
    project: str,
    needed: Iterable[str],
    dead: Collection[str] = (),
) -> Leftovers:
    """Choose leftovers; ``configs`` are the candidates' by id, ``dead`` containers are removed and so use no image."""
    needed_names = frozenset(needed)
    used = {container.image for container in containers if container.name not in dead}
    removable: list[StoredImage] = []
    names: list[str] = []
    for image in images:
        config = configs.get(image.id)
        if image.id in used or config is None or not _is_ours(config, project, named=bool(image.names)):
            continue
        unneeded = [name for name in image.names if is_base_image(name, project) and name not in needed_names]
        if len(unneeded) == len(image.names):
            removable.append(image)
        else:
            names += unneeded
    return Leftovers(containers=tuple(sorted(dead)), images=tuple(removable), names=tuple(names))


def select_removed(leftovers: Leftovers, removed: Collection[str]) -> Leftovers:
    """Return the leftovers whose names or ids are in ``removed``."""
    return Leftovers(
        containers=tuple(name for name in leftovers.containers if name in removed),
        images=tuple(image for image in leftovers.images if image.id in removed),
        names=tuple(name for name in leftovers.names if name in removed),
    )


def remove_leftovers(leftovers: Leftovers, leases: Leases, gone: set[str]) -> None:
    """Remove leftovers, except images that a container uses by now. Raises ToolError.

    Adds names of containers and images and ids of images that were removed to ``gone``.
    """
    if leftovers.containers:
        removed = remove_containers(leftovers.containers)
        gone |= removed
        leases.sweep(removed.intersection)
    gone.update(name for name in leftovers.names if storage.remove_name(name))
    gone.update(image.id for image in leftovers.images if storage.remove_image(image.id))


def is_candidate(image: StoredImage, project: str, needed: frozenset[str]) -> bool:
    """Return whether an image has no name, or an unneeded one that containers started from."""
    return not image.names or any(is_base_image(name, project) and name not in needed for name in image.names)


def is_base_image(name: str, project: str) -> bool:
    """Return whether containers of builds start from images of such a name."""
    return re.fullmatch(_BASE_IMAGE.format(project=re.escape(project)), name) is not None


def _is_ours(config: Mapping[str, Any], project: str, *, named: bool) -> bool:
    """Return whether buildkit composed an image, or committed a step on top of one.

    An image without a name must have a label of this project, too.
    """
    comments = [line.get("comment", "") for line in config.get("history") or ()]
    if not comments or config.get("created") != EPOCH:
        return False
    below = comments[-1].removeprefix("FROM ")
    if is_base_image(below, project):
        return len(comments) > 1 and set(comments[:-1]) == {_OURS}
    labels = (config.get("config") or {}).get("Labels") or {}
    return set(comments) == {_OURS} and (named or labels.get(TITLE, "").startswith(f"{project}/"))


def _is_alive(container: str) -> bool:
    """Return whether there is a process with the number in a container's name."""
    try:
        os.kill(int(container.split("-")[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's
    return True


def _configs(images: list[str]) -> dict[str, Mapping[str, Any]]:
    with WorkerPool(_WORKERS) as pool:
        found = dict(zip(images, pool.map(storage.find_config, images), strict=True))
    return {image: config for image, config in found.items() if config is not None}
