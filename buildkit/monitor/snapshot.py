"""All containers at a moment: a value, and its JSON. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from buildkit.monitor.containers import WatchedContainer
from buildkit.monitor.rates import UsageRates
from buildkit.monitor.usage import CgroupLimits, CgroupUsage, PressureStall

_NO_LIMITS, _NO_RATES = CgroupLimits(), UsageRates()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuShare:
    """What a container has of a GPU: bytes of memory, and the share of time in which it computed."""

    index: int
    uuid: str
    memory: int | None = None
    utilisation: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """A container as it is now. ``usage`` is None once it has ended.

    ``expected`` is whether its image is what this checkout would build; None: not known here, or no image of it.
    """

    container: WatchedContainer
    usage: CgroupUsage | None = None
    limits: CgroupLimits = _NO_LIMITS
    rates: UsageRates = _NO_RATES
    oom_kills: int | None = None
    gpus: tuple[GpuShare, ...] = ()
    expected: bool | None = None

    @property
    def state(self) -> str:
        """``running`` or ``gone``."""
        return "gone" if self.usage is None else "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All containers at ``time`` (seconds since the epoch), and why GPUs or podman did not answer, if that is so."""

    time: float
    containers: tuple[ContainerView, ...]
    gpu_problems: tuple[str, ...] = ()
    podman_problem: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """What did not answer, in words."""
        return (*self.gpu_problems, *([f"podman: {self.podman_problem}"] if self.podman_problem else []))


def snapshot_as_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return plain values; every key is always there, and null is what is not known."""
    return {
        "time": snapshot.time,
        "containers": [_container(view) for view in snapshot.containers],
        "gpu_problems": list(snapshot.gpu_problems),
        "podman_problem": snapshot.podman_problem or None,
    }


def _container(view: ContainerView) -> dict[str, Any]:
    one, usage, rates = view.container, view.usage or CgroupUsage(), view.rates
    return {
        "id": one.id,
        "name": one.name,
        "state": view.state,
        "health": one.health or None,
        "restarts": one.restarts,
        "image": {"name": one.image_name, "id": one.image, "digest": one.digest or None, "expected": view.expected},
        "cpu": {
            "used": rates.cpu,
            "seconds": usage.cpu_seconds,
            "limit": view.limits.cpus,
            "throttled": rates.throttled,
            "throttled_seconds": usage.throttled_seconds,
            "pressure": _pressure(usage.cpu_pressure),
        },
        "memory": {
            "used": usage.memory,
            "working_set": usage.working_set,
            "limit": view.limits.memory,
            "oom_kills": view.oom_kills,
            "pressure": _pressure(usage.memory_pressure),
        },
        "io": {
            "read": usage.read,
            "written": usage.written,
            "read_rate": rates.read,
            "write_rate": rates.written,
            "pressure": _pressure(usage.io_pressure),
        },
        "network": {
            "received": usage.received,
            "sent": usage.sent,
            "receive_rate": rates.received,
            "send_rate": rates.sent,
        },
        "pids": {"used": usage.pids, "limit": view.limits.pids},
        "gpus": [asdict(gpu) for gpu in view.gpus],
    }


def _pressure(stall: PressureStall | None) -> dict[str, float] | None:
    return None if stall is None else asdict(stall)
