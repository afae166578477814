"""Whether this host bears the inference containers (NIM) of an environment: memory, and disk for their caches."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from buildkit.declare.gpu_request import parse_size
from buildkit.errors import BuildError
from buildkit.running.environment import RunningService
from buildkit.running.mounts import VolumeMount
from buildkit.services.host_limits import find_capacity
from buildkit.tools.podman_objects import list_volumes

_GIB = 1 << 30


def check_nim_host(services: Iterable[RunningService], volumes: Path) -> None:
    """Raise BuildError, with every reason, if a service cannot run here; ``volumes`` is podman's folder of them."""
    asking = [service for service in services if service.nim]
    if not asking:
        return
    existing = next(folder for folder in (volumes, *volumes.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    found = tuple(find_shortages(asking, memory=find_capacity().memory, free=free, kept=list_volumes(())))
    if found:
        hint = "run it on a larger host, or take a smaller model"
        raise BuildError(f"nothing was started: {'; '.join(found)}", hint=hint)


def find_shortages(
    services: Iterable[RunningService], *, memory: int, free: int, kept: Collection[str]
) -> Iterator[str]:
    """Yield what there is too little of, in bytes; caches that are ``kept`` already need no more disk."""
    wanted: dict[str, int] = {}
    for service in services:
        most = service.container.running.memory
        if parse_size(most) > memory:
            yield f"{service.name} may use {most} of memory, and this host has {_format(memory)}"
        for mount in service.container.mounts:
            if isinstance(mount, VolumeMount) and mount.size and mount.volume not in kept:
                wanted[mount.volume] = max(wanted.get(mount.volume, 0), parse_size(mount.size))
    if sum(wanted.values()) > free:
        names = " and ".join(wanted)
        yield f"{names} needs {_format(sum(wanted.values()))} of disk, and {_format(free)} are free for volumes"


def _format(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
