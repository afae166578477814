"""Who uses how much of the GPUs: values, and their division over containers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcessUse:
    """A program's part of a GPU: bytes of its memory, and the share of the time it computed (0 to 1).

    None: the driver does not tell. ``pid`` is the host's.
    """

    pid: int
    memory: int | None = None
    utilisation: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """What a GPU says of itself beside its use: °C, watts, and errors of its memory since the driver was loaded.

    ``xid`` is the code of the last critical error that the driver reported since it was watched (NVIDIA's *XID
    errors*), None if there was none.
    """

    name: str = ""
    temperature: int | None = None
    power: float | None = None
    corrected: int | None = None
    uncorrected: int | None = None
    xid: int | None = None


_UNKNOWN = GpuHealth()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """A GPU at a moment: bytes of memory in use and in all, and the share of the last period in which it computed."""

    index: int
    uuid: str
    memory: int | None = None
    total: int | None = None
    utilisation: float | None = None
    processes: tuple[GpuProcessUse, ...] = ()
    health: GpuHealth = _UNKNOWN
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerGpu:
    """What the programs of a container have of a GPU."""

    index: int
    uuid: str
    memory: int | None = None
    utilisation: float | None = None


def divide(uses: Iterable[GpuUse], container_of: Callable[[int], str]) -> dict[str, tuple[ContainerGpu, ...]]:
    """Return what each container has, by its id; ``container_of`` names that of a process, empty for one in none."""
    found: dict[tuple[str, str], ContainerGpu] = {}
    for use in uses:
        for process in use.processes:
            if container := container_of(process.pid):
                before = found.get((container, use.uuid), ContainerGpu(index=use.index, uuid=use.uuid))
                found[container, use.uuid] = _add(before, process)
    shares: dict[str, tuple[ContainerGpu, ...]] = {}
    for (container, _), gpu in found.items():
        shares[container] = (*shares.get(container, ()), gpu)
    return shares


def _add(gpu: ContainerGpu, process: GpuProcessUse) -> ContainerGpu:
    memory = gpu.memory if process.memory is None else (gpu.memory or 0) + process.memory
    busy = gpu.utilisation
    if process.utilisation is not None:
        busy = min(1.0, (busy or 0.0) + process.utilisation)
    return replace(gpu, memory=memory, utilisation=busy)
