"""Devices for files that are written on a host without such GPUs: by index, as if there were enough. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from buildkit.gpu.cdi_spec import NVIDIA
from buildkit.gpu.eligibility import WantedGpus


def assume_devices(wanted: Sequence[WantedGpus]) -> dict[str, tuple[str, ...]]:
    """Return CDI names for each container, no index for two that do not share; devices that are named stay."""
    named = {word for one in wanted for word in one.request.devices}
    free = (str(number) for number in count() if str(number) not in named)
    shared: dict[str, list[str]] = {}
    return {one.container: tuple(f"{NVIDIA}={word}" for word in _words(one, free, shared)) for one in wanted}


def _words(one: WantedGpus, free: Iterator[str], shared: dict[str, list[str]]) -> list[str]:
    request = one.request
    if request.devices or request.every:
        return list(request.devices) or ["all"]
    if request.share == "exclusive":
        return [next(free) for _ in range(request.count)]
    pool = shared.setdefault(request.share, [])
    while len(pool) < request.count:
        pool.append(next(free))
    return pool[: request.count]
