"""What builds left in local storage that is of no more use: images and working containers. Decided, then removed.

Ours is only what says so: a name that builds give (``localhost/NAME/STAGE:root-KEY``), and a config whose history is
all ours. Images that have a name of another kind, that a container uses, or that belong to another project, stay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from buildkit.errors import ToolError
from buildkit.events import Emit, Note
from buildkit.oci.image import EPOCH, TITLE
from buildkit.store.leases import Leases
from buildkit.tools import storage
from buildkit.tools.buildah import remove_containers
from buildkit.tools.process import find_tool
from buildkit.tools.storage import StoredContainer, StoredImage

_OURS = "buildkit"  # the comment of a history line (oci/image.py)
_STARTER = r"localhost/{project}/[^/:]+:(root|whole)-[0-9a-f]{{12}}"
_BOX = re.compile(r"buildkit-[0-9]+-[0-9a-f]{12}")  # tools/buildah.py
_ASKED_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What may go: working containers, images, and names of images that have other names too."""

    containers: tuple[str, ...] = ()
    images: tuple[StoredImage, ...] = ()
    names: tuple[str, ...] = ()


def find_leftovers(project: str, needed: Iterable[str], notes: Leases, emit: Emit) -> Leftovers:
    """Look through local storage; ``needed`` are names of images that containers start from.

    Nothing, and a note, where there are no tools to ask it.
    """
    if not (find_tool("buildah") and find_tool("skopeo")):
        emit(Note(text="local storage is not looked at: buildah or skopeo is not installed"))
        return Leftovers()
    try:
        images, containers = storage.list_images(), storage.list_containers()
        configs = _configs([image.id for image in images if is_candidate(image, project, frozenset(needed))])
    except ToolError as error:
        emit(Note(text=f"local storage is not looked at: {error.message}", warning=True))
        return Leftovers()
    working = [box.name for box in containers if box.working and _BOX.fullmatch(box.name)]
    return choose_leftovers(images, containers, configs, project, needed, find_dead(working, notes))


def find_dead(containers: Iterable[str], notes: Leases) -> frozenset[str]:
    """Containers of builds that died: noted by nobody who lives, and of no living process."""
    unheld: list[str] = []

    def look(names: Sequence[str]) -> tuple[str, ...]:
        unheld.extend(names)
        return ()  # nothing is struck off

    notes.sweep(look)
    held = {path.name for path in notes.folder.glob("*")} - set(unheld)
    return frozenset(name for name in containers if name in unheld or (name not in held and not _is_alive(name)))


def choose_leftovers(
    images: Iterable[StoredImage],
    containers: Iterable[StoredContainer],
    configs: Mapping[str, Mapping[str, Any]],
    project: str,
    needed: Iterable[str],
    dead: Collection[str] = (),
) -> Leftovers:
    """Decide, on values: ``configs`` are those of the candidates, by id; ``dead`` containers go, and use no image."""
    wanted = frozenset(needed)
    used = {box.image for box in containers if box.name not in dead}
    gone: list[StoredImage] = []
    names: list[str] = []
    for image in images:
        config = configs.get(image.id)
        if image.id in used or config is None or not _is_ours(config, project, named=bool(image.names)):
            continue
        doomed = [name for name in image.names if _is_starter(name, project) and name not in wanted]
        if len(doomed) == len(image.names):
            gone.append(image)
        else:
            names += doomed
    return Leftovers(containers=tuple(sorted(dead)), images=tuple(gone), names=tuple(names))


def choose_gone(leftovers: Leftovers, gone: Collection[str]) -> Leftovers:
    """Those of them that went."""
    return Leftovers(
        containers=tuple(name for name in leftovers.containers if name in gone),
        images=tuple(image for image in leftovers.images if image.id in gone),
        names=tuple(name for name in leftovers.names if name in gone),
    )


def remove_leftovers(leftovers: Leftovers, notes: Leases, gone: set[str]) -> None:
    """Remove them; what a container began to use meanwhile stays. Raises ToolError.

    Names of what went, and ids of images, are added to ``gone``.
    """
    if leftovers.containers:
        removed = remove_containers(leftovers.containers)
        gone |= removed
        notes.sweep(removed.intersection)
    gone.update(name for name in leftovers.names if storage.remove_name(name))
    gone.update(image.id for image in leftovers.images if storage.remove_image(image.id))


def is_candidate(image: StoredImage, project: str, needed: frozenset[str]) -> bool:
    """Whether its names let an image go: it has none, or one that only serves to start containers no more."""
    return not image.names or any(_is_starter(name, project) and name not in needed for name in image.names)


def _is_starter(name: str, project: str) -> bool:
    return re.fullmatch(_STARTER.format(project=re.escape(project)), name) is not None


def _is_ours(config: Mapping[str, Any], project: str, *, named: bool) -> bool:
    """Whether an image was composed by us, or is a step that we committed on top of such; without a name it must also
    say that it is of this project.
    """
    comments = [line.get("comment", "") for line in config.get("history") or ()]
    if not comments or config.get("created") != EPOCH:
        return False
    below = comments[-1].removeprefix("FROM ")
    if _is_starter(below, project):
        return len(comments) > 1 and set(comments[:-1]) == {_OURS}
    labels = (config.get("config") or {}).get("Labels") or {}
    return set(comments) == {_OURS} and (named or labels.get(TITLE, "").startswith(f"{project}/"))


def _is_alive(box: str) -> bool:
    """Whether there is a process of the number in a container's name."""
    try:
        os.kill(int(box.split("-")[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's
    return True


def _configs(images: list[str]) -> dict[str, Mapping[str, Any]]:
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        found = dict(zip(images, pool.map(storage.find_config, images), strict=True))
    return {image: config for image, config in found.items() if config is not None}
