"""Containers that podman-compose or another program made from a compose file: found by its labels, and made again."""

from __future__ import annotations

import json
import stat
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter
from io import BytesIO
from pathlib import Path
from typing import Any

from buildkit.errors import BuildError, ToolError
from buildkit.tools.process import Command, converse, run

_PROJECT, _SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_PATHS = 200  # of one command
_GRACE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedContainer:
    """A container of a service; ``argv`` is the command that made it, ``needs`` are ids of those it depends on."""

    id: str
    name: str
    service: str
    image: str
    running: bool
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ()


def find_composed(project: str) -> tuple[ComposedContainer, ...]:
    """Return the containers of a compose project. Raises MissingTool or ToolError."""
    label = f"label={_PROJECT}={project}"
    listed = run(Command(argv=("podman", "ps", "--all", "--quiet", "--no-trunc", "--filter", label)))
    ids = listed.text.split()
    if not ids:
        return ()
    described = run(Command(argv=("podman", "container", "inspect", *ids), what="looking the containers up"))
    return tuple(parse_composed(item) for item in json.loads(described.stdout))


def parse_composed(described: dict[str, Any]) -> ComposedContainer:
    """Parse a container as ``podman container inspect`` describes it (4.3 and later)."""
    config = described["Config"]
    return ComposedContainer(
        id=described["Id"],
        name=described["Name"],
        service=(config.get("Labels") or {}).get(_SERVICE, ""),
        image=described["ImageName"],
        running=bool(described["State"]["Running"]),
        argv=tuple(config.get("CreateCommand") or ()),
        needs=tuple(described.get("Dependencies") or ()),
    )


def make_again(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command that makes a container again in the background, from the one that made it.

    Raises BuildError for a container that was not made by a command of podman.
    """
    words = list(argv)
    verb = next((place for place, word in enumerate(words) if word in ("run", "create")), 0)
    if not verb:
        raise BuildError(
            "the container was not made by podman's command, so it cannot be made again",
            hint="podman-compose up --detach --force-recreate makes containers that can",
        )
    detached = {"-d", "--detach", "--detach=true"}
    if words[verb] == "run" and detached.isdisjoint(words[verb:]):
        words.insert(verb + 1, "--detach")
    return tuple(words)


def replace_containers(wanted: Sequence[ComposedContainer], every: Sequence[ComposedContainer]) -> tuple[str, ...]:
    """Remove containers, and those that depend on them, and make them again; return the names of all of these.

    Raises ToolError; what was removed is made again even if this process is asked to stop.
    """
    again = {item.id: make_again(item.argv) for item in find_dependents(wanted, every)}
    named = {item.id: item.name for item in every}
    for identity in reversed(again):
        run(Command(argv=("podman", "rm", "--force", identity), is_cleanup=True, grace=_GRACE))
    for identity, argv in again.items():
        run(Command(argv=argv, is_cleanup=True, grace=_GRACE, what=f"making {named[identity]} again"))
        if "create" in argv[:3]:
            run(Command(argv=("podman", "start", "--", named[identity]), is_cleanup=True, grace=_GRACE))
    return tuple(named[identity] for identity in again)


def find_dependents(
    wanted: Sequence[ComposedContainer], every: Sequence[ComposedContainer]
) -> tuple[ComposedContainer, ...]:
    """Return the containers, then those that depend on them, in an order in which they can be made."""
    found = {item.id: item for item in wanted}
    while more := [item for item in every if item.id not in found and not found.keys().isdisjoint(item.needs)]:
        found |= {item.id: item for item in more}
    needs = {item.id: [other for other in item.needs if other in found] for item in found.values()}
    return tuple(found[identity] for identity in TopologicalSorter(needs).static_order())


def build_image(argv: Sequence[str], context: Path, containerfile: str = "") -> None:
    """Run ``podman build``, with the text of a Containerfile on its input if there is one. Raises ToolError."""
    run(
        Command(
            argv=tuple(argv), cwd=context, stdin=containerfile.encode() if containerfile else None, what="the build"
        )
    )


def restart(name: str, patience: float = 0.0) -> None:
    """Restart a container. Raises ToolError, also if podman does nothing for so many seconds; 0: however long."""
    argv = ("podman", "restart", "--", name)
    try:
        run(Command(argv=argv, what=f"restarting {name}", is_cleanup=True, stall_seconds=patience))
    except ToolError as error:
        if "address already in use" not in error.output:
            raise
        hint = f"podman has not given back its port yet: podman rm --force {name} does"
        raise ToolError(error.message, hint=hint, output=error.output) from error


def run_inside(name: str, argv: Sequence[str]) -> str:
    """Run a command in a container; return its output. Raises ToolError."""
    done = run(Command(argv=("podman", "exec", "--", name, *argv), what=f"`{' '.join(argv)}` in {name}"))
    return (done.stdout + done.stderr).decode("utf-8", "replace").strip()


def copy_into(name: str, files: Sequence[tuple[Path, str]]) -> None:
    """Copy files and links to absolute paths in a container, for its user, in one go; what is gone by now is skipped.

    Raises ToolError.
    """
    if not files:
        return
    with (
        converse(Command(argv=("podman", "cp", "-", f"{name}:/"), what=f"copying into {name}")) as (stdin, _),
        suppress(BrokenPipeError),  # podman has ended, and says why
        tarfile.open(fileobj=stdin, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, target in files:
            _add(tar, path, target)


def _add(tar: tarfile.TarFile, path: Path, target: str) -> None:
    try:
        member = tar.gettarinfo(path, target.lstrip("/"))
        member.uid = member.gid = 0  # podman gives them to the container's user
        content = path.read_bytes() if member.isfile() else b""
    except FileNotFoundError:
        return
    member.size = len(content)
    if member.isfile() or member.issym():
        tar.addfile(member, BytesIO(content))


def remove_inside(name: str, targets: Sequence[str]) -> None:
    """Remove paths in a container by its ``rm``. Raises ToolError if it has none."""
    for start in range(0, len(targets), _PATHS):
        some = targets[start : start + _PATHS]
        try:
            run(Command(argv=("podman", "exec", "--user=0", "--", name, "rm", "-rf", "--", *some)))
        except ToolError as error:
            raise ToolError(f"{some[0]} could not be removed in {name}", output=error.output) from None


def is_file(path: Path) -> bool:
    """Return whether there is a file or a link, which can be copied."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)
