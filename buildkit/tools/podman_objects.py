"""podman: networks, volumes and secrets by name, and containers by label."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit.errors import ToolError
from buildkit.tools.podman import FAILED, HINT
from buildkit.tools.process import Command, run

Labels = Iterable[tuple[str, str]]
_ANY = tuple(range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """A port of a container and where the host has it."""

    number: int
    protocol: str
    host: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundContainer:
    """A container of any state (``running``, ``exited``, ``created``); ``exit_code`` is that of its last end.

    ``pid`` is its first process, 0 if it does not run.
    """

    name: str
    state: str
    exit_code: int
    labels: tuple[tuple[str, str], ...]
    ports: tuple[HostPort, ...]
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSecret:
    """A secret that podman keeps; its id is another one when it is made anew."""

    name: str
    id: str
    labels: tuple[tuple[str, str], ...]


def list_containers(labels: Labels, *, is_cleanup: bool = False) -> tuple[FoundContainer, ...]:
    """Return the containers that have all of these labels. Raises MissingTool or ToolError."""
    filters = [word for name, value in labels for word in ("--filter", f"label={name}={value}")]
    argv = ("podman", "ps", "--all", "--no-trunc", "--format", "json", *filters)
    listed = run(Command(argv=argv, what="listing containers", is_cleanup=is_cleanup))
    found: list[dict[str, Any]] = json.loads(listed.stdout or b"[]")
    return tuple(sorted(map(_parse_container, found), key=lambda container: container.name))


def _parse_container(item: dict[str, Any]) -> FoundContainer:
    ports = (
        HostPort(
            number=port["container_port"] + step,
            protocol=port["protocol"],
            host=port["host_port"] + step,
        )
        for port in item.get("Ports") or ()
        for step in range(port.get("range") or 1)  # neighbours are reported as one
    )
    return FoundContainer(
        name=item["Names"][0],
        state=item["State"].lower(),
        exit_code=int(item.get("ExitCode") or 0),
        labels=tuple(sorted((item.get("Labels") or {}).items())),
        ports=tuple(ports),
        pid=int(item.get("Pid") or 0),
    )


def find_containers_of(ref: str) -> tuple[str, ...]:
    """Return the names of the running containers of an image."""
    argv = ("podman", "ps", "--filter", f"ancestor={ref}", "--format", "{{.Names}}")
    return tuple(sorted(run(Command(argv=argv, what="listing containers")).text.split()))


def find_image_ids(refs: Sequence[str]) -> dict[str, str]:
    """Return the ids of those images that local storage has, by the names that were asked for."""
    unique = tuple(dict.fromkeys(refs))
    ids = _find_ids(unique) if unique else []
    if len(ids) == len(unique):  # podman names only what it finds
        return dict(zip(unique, ids, strict=True))
    return {ref: found[0] for ref in unique if (found := _find_ids((ref,)))}


def _find_ids(refs: tuple[str, ...]) -> list[str]:
    argv = ("podman", "image", "inspect", "--format", "{{.Id}}", *refs)
    return [line.removeprefix("sha256:") for line in run(Command(argv=argv, accept=(0, 1, FAILED))).text.split()]


def create_network(argv: Sequence[str]) -> None:
    """Make a network. Raises ToolError."""
    finished = run(Command(argv=tuple(argv), accept=_ANY))
    if finished.code == 0:
        return
    message = finished.stderr.decode("utf-8", "replace").strip()
    hint = "set `subnet` of the environment to a free one" if "subnet" in message else HINT
    raise ToolError(f"making the network {argv[-1]} failed", hint=hint, output=message)


def ensure_volume(argv: Sequence[str]) -> bool:
    """Make a volume unless there is one of the name; return whether it is new. Raises ToolError."""
    finished = run(Command(argv=tuple(argv), accept=_ANY))
    message = finished.stderr.decode("utf-8", "replace").strip()
    if finished.code and "already exists" not in message:
        raise ToolError(f"making the volume {argv[-1]} failed", hint=HINT, output=message)
    return finished.code == 0


def list_volumes(labels: Labels) -> tuple[str, ...]:
    """Return the names of the volumes that have all of these labels."""
    filters = [word for name, value in labels for word in ("--filter", f"label={name}={value}")]
    return tuple(run(Command(argv=("podman", "volume", "ls", "--quiet", *filters), is_cleanup=True)).text.split())


def remove_volume(name: str) -> None:
    """Remove a volume and what is in it. Raises ToolError, also if a container uses it."""
    run(Command(argv=("podman", "volume", "rm", "--", name), what=f"removing the volume {name}", is_cleanup=True))


def list_secrets() -> tuple[FoundSecret, ...]:
    """Return the user's secrets. Raises MissingTool or ToolError."""
    ids = run(Command(argv=("podman", "secret", "ls", "--quiet"), is_cleanup=True)).text.split()
    if not ids:
        return ()
    found = run(
        Command(argv=("podman", "secret", "inspect", *ids), accept=_ANY, is_cleanup=True)
    )  # another process may remove one
    return tuple(
        FoundSecret(
            name=item["Spec"]["Name"], id=item["ID"], labels=tuple(sorted((item["Spec"].get("Labels") or {}).items()))
        )
        for item in json.loads(found.stdout or b"[]")
    )


def create_secret(name: str, data: bytes, labels: Labels = ()) -> None:
    """Make a secret; its bytes reach podman by a pipe. Raises ToolError."""
    words = [word for key, value in labels for word in ("--label", f"{key}={value}")]
    argv = ("podman", "secret", "create", *words, "--", name, "-")
    run(Command(argv=argv, stdin=data, what=f"making the secret {name}"))


def remove_secret(name: str) -> None:
    """Remove a secret; a missing one is not an error, and containers that were made with it keep it."""
    run(Command(argv=("podman", "secret", "rm", "--", name), accept=_ANY, is_cleanup=True))


def rename(name: str, new: str) -> None:
    """Give a container another name. Raises ToolError."""
    run(Command(argv=("podman", "rename", name, new), what=f"renaming {name}", is_cleanup=True))


def start(name: str) -> bool:
    """Start a container that was stopped; return whether that worked."""
    return run(Command(argv=("podman", "start", "--", name), accept=_ANY, is_cleanup=True)).code == 0
