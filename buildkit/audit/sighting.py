"""What was seen of a running container from outside, and what its project says of it: values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from buildkit.declare.audit_file import AuditAcceptance
from buildkit.running.flags import ContainerSpec
from buildkit.running.proc import Connection, ListeningSocket, MountPoint, ProcessStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCode:
    """A file whose code processes run.

    ``how`` is ``program``, ``library`` (it is mapped as code) or ``script``. ``place`` is ``image``, ``written`` (in
    the container's own layer), ``absent`` (in no layer), ``mount``, ``memory`` (without a file), ``gone`` (deleted), or
    ``unknown``. ``mount`` is where it is mounted, ``writable`` whether that is, ``names`` are those of processes.
    """

    how: str
    path: str
    place: str
    mount: str = "/"
    kind: str = ""
    writable: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSight:
    """A network of a container: listening sockets, connections, and interfaces with a default route."""

    listening: tuple[ListeningSocket, ...] = ()
    connections: tuple[Connection, ...] = ()
    ways_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the kernel said of a container's processes; ``unread`` names what it did not say, each with the reason.

    ``shared`` are the namespaces that are the host's; ``memory`` (bytes) and ``pids`` are its limits, None for none.
    """

    unread: tuple[str, ...] = ()
    processes: tuple[ProcessStatus, ...] = ()
    environment: tuple[str, ...] = ()
    mounts: tuple[MountPoint, ...] = ()
    networks: tuple[NetworkSight, ...] = ()
    shared: tuple[str, ...] = ()
    code: tuple[RunningCode, ...] = ()
    memory: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFlags:
    """How podman was told to start a container.

    ``published`` are ports (``8000/tcp``) with the host's addresses; ``sources`` are the host's files that are mounted,
    with their targets. ``calls`` are the system calls that its filter allows with their conditions, None if unread.
    """

    privileged: bool = False
    published: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    calls: frozenset[tuple[str, str]] | None = None


class ImageState(StrEnum):
    """Whether a container's image is the one that it should be."""

    GOOD = "good"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageVerdict:
    """The state of a container's image, and the reason in words if it is not good."""

    state: ImageState
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredContainer:
    """What a project says of a container.

    ``stage`` is empty for an image that is none of its own: then the recommended flags count.
    ``exposed`` are the ports that its image names (``8000/tcp``), beside those that are published.
    ``sources`` are files of the host that a session mounts beside those of ``spec``, with their targets.
    ``reasons`` are the exceptions of services.toml in words, by what they allow. ``peers`` are the addresses that it
    may talk to in a closed network.
    """

    spec: ContainerSpec
    stage: str = ""
    exposed: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    peers: frozenset[str] = frozenset()
    acceptances: tuple[AuditAcceptance, ...] = ()

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports on which it may listen."""
        return (*self.exposed, *(f"{port.number}/{port.protocol}" for port in self.spec.ports))
