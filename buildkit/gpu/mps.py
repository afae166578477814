"""NVIDIA's Multi-Process Service (MPS): what its daemon and clients share, and who cannot use it. Pure.

One control daemon serves the programs of one user of the host; a program of another user waits until all of these have
ended. A program that does not reach the daemon runs beside it, and without its limits
(https://docs.nvidia.com/deploy/mps/, nvidia-cuda-mps-control(1)).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buildkit.declare.gpu_request import MpsLimits, parse_size
from buildkit.gpu.cdi_spec import NVIDIA, CdiFiles

CONTROL = "nvidia-cuda-mps-control"
ASK = "get_default_active_thread_percentage"  # a command that only a daemon that works answers
DEFAULT_PIPE = "/tmp/nvidia-mps"  # noqa: S108 - given to every GPU container of the host that has it
PIPE, LOG = "/run/mps/pipe", "/run/mps/log"  # in containers
EXCLUSIVE = "EXCLUSIVE_PROCESS"
_LONGEST = 107  # bytes of a socket's path, unix(7)
_SOCKET = "control_privileged"  # the longest name in the pipe folder
_PARENT = 0o755
_MEGA, _GIGA = 1 << 20, 1 << 30

UidMap = tuple[tuple[int, int, int], ...]
"""As in /proc/PID/uid_map: first id inside, first id on the host, count; empty: the same ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MpsClient:
    """A container that shares GPUs: ``uid`` is the user in it, None if only its name is known, ``uids`` their map."""

    name: str
    uid: int | None
    uids: UidMap = ()

    @property
    def host_uid(self) -> int | None:
        """The user on the host, who the daemon sees."""
        return None if self.uid is None else map_uid(self.uid, self.uids)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeFolder:
    """The folder of a daemon's sockets on the host, and the permissions of the folders above it, by path."""

    path: str
    parents: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MpsRefusal:
    """Why MPS cannot be used, and what mends it."""

    what: str
    hint: str


def client_variables(limits: MpsLimits, devices: int) -> tuple[tuple[str, str], ...]:
    """Return the environment of a client that has so many GPUs."""
    found = [("CUDA_MPS_PIPE_DIRECTORY", PIPE), ("CUDA_MPS_LOG_DIRECTORY", LOG)]
    return (*found, *limit_variables(limits, devices))


def limit_variables(limits: MpsLimits, devices: int) -> tuple[tuple[str, str], ...]:
    """Return only the limits of a client's environment, each GPU by its number in the container (``0=8G,1=8G``)."""
    found = []
    if limits.threads:
        found.append(("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", str(limits.threads)))
    if limits.memory and devices:
        each = format_memory(limits.memory)
        text = ",".join(f"{number}={each}" for number in range(devices))
        found.append(("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", text))
    return tuple(found)


def format_memory(size: str) -> str:
    """Return a size of podman (``8g``) as MPS writes it: whole numbers of ``G`` or ``M``, rounded down, at least 1M."""
    count = parse_size(size)
    return f"{count // _GIGA}G" if count and count % _GIGA == 0 else f"{max(count // _MEGA, 1)}M"


def map_uid(uid: int, uids: UidMap) -> int | None:
    """Return the host's user of a container's; None if the container cannot have that user."""
    if not uids:
        return uid
    return next((outside + uid - inside for inside, outside, count in uids if inside <= uid < inside + count), None)


def keep_id(uid: int, uids: UidMap) -> UidMap:
    """Return the map of a container in which ``uid`` is the user who runs podman (``--userns=keep-id:uid=N``)."""
    if not uids:
        return ()
    own, *others = uids
    shifted, start = [(uid, own[1], 1)], 0
    for _, outside, count in others:
        before = max(0, min(count, uid - start))
        if before:
            shifted.append((start, outside, before))
        if count > before:
            shifted.append((start + before + 1, outside + before, count - before))
        start += count
    return tuple(sorted(shifted))


def check_users(clients: Sequence[MpsClient]) -> Iterator[MpsRefusal]:
    """Yield why these clients are not of one user of the host."""
    for client in clients:
        if client.uid is None:
            what = f"{client.name}: the number of its user is not known"
            yield MpsRefusal(what=what, hint=f'user = "UID:GID" of services.{client.name}')
        elif client.host_uid is None:
            what = f"{client.name}: user {client.uid} is not mapped to the host"
            yield MpsRefusal(what=what, hint="give it a user below the size of your range in /etc/subuid")
    users: dict[int, list[str]] = {}
    for client in clients:
        if client.host_uid is not None:
            users.setdefault(client.host_uid, []).append(client.name)
    if len(users) > 1:
        named = "; ".join(f"{', '.join(names)}: {uid}" for uid, names in sorted(users.items()))
        what = f"MPS serves one user at a time, and these are several on the host ({named})"
        yield MpsRefusal(what=what, hint="give them one `user`; the others would wait for the end of the first")


def check_pipe(folder: PipeFolder) -> Iterator[MpsRefusal]:
    """Yield what is wrong with a daemon's folder on the host."""
    if len(f"{folder.path}/{_SOCKET}".encode()) > _LONGEST:
        what = f"{folder.path} is too long for sockets in it: {_LONGEST - len(_SOCKET) - 1} bytes are the most"
        yield MpsRefusal(what=what, hint="export CUDA_MPS_PIPE_DIRECTORY=/run/mps/pipe, and start the daemon again")
    if posixpath.normpath(folder.path) == DEFAULT_PIPE:
        what = f"{folder.path} is given to every container with a GPU, so all of them become clients"
        yield MpsRefusal(what=what, hint="export CUDA_MPS_PIPE_DIRECTORY=/run/mps/pipe, and start the daemon again")
    for path, mode in folder.parents:
        if mode & _PARENT != _PARENT:
            what = f"{path} above MPS's folder has mode {mode:04o}: clients of containers cannot enter it"
            yield MpsRefusal(what=what, hint=f"sudo chmod 0755 {path}")


def has_control(cdi: CdiFiles) -> bool | None:
    """Return whether the specifications give containers the daemon's program; None if there are none of NVIDIA's."""
    files = cdi.of_kind(NVIDIA)
    if not files:
        return None
    return any(posixpath.basename(path) == CONTROL for file in files if file.spec for path in file.spec.needs)
