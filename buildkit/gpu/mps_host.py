"""What a host itself has of MPS: control daemons outside of containers, and their folders. Values."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.gpu.mps import PipeFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class MpsDaemon:
    """A control daemon that runs on the host; ``pipe`` is None if its environment cannot be read."""

    pid: int
    uid: int
    pipe: PipeFolder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MpsHost:
    """The daemons of a host, the permissions of its ``/dev/shm`` (None: it is missing), and the current user.

    ``default_pipe`` is whether the folder exists that is given to every container with a GPU.
    """

    uid: int = 0
    daemons: tuple[MpsDaemon, ...] = ()
    default_pipe: bool = False
    shm: int | None = 0o1777
