"""What a version has to do: the figures by which it is scaled, summed over its replicas."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from buildkit.declare.rollout import Scale
from buildkit.gpu.use import ContainerGpu, GpuUse, divide
from buildkit.rollout.haproxy_answers import ProxyLoad
from buildkit.rollout.hpa import LoadSample
from buildkit.tools.cgroups import CgroupReader
from buildkit.tools.container_cpu import read_cpu_seconds
from buildkit.tools.podman import find_id

_PERCENT = 100


class CpuMeter:
    """The CPUs that containers use, between one question and the next."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, read: Callable[[str], float] = read_cpu_seconds
    ) -> None:
        self._now, self._read = now, read
        self._before: dict[str, tuple[float, float]] = {}

    def measure(self, containers: Iterable[str]) -> float | None:
        """Return the CPUs in use, None if no container was asked about before. Raises BuildError."""
        found = {name: (self._now(), self._read(name)) for name in containers}
        known = [name for name, at in found.items() if _follows(self._before.get(name), at)]
        rates = [(found[name][1] - self._before[name][1]) / (found[name][0] - self._before[name][0]) for name in known]
        self._before |= found  # other versions are asked about in turn
        return sum(rates) * len(found) / len(known) if known else None  # one that has just come counts as the others


def sum_metric(page: str, name: str) -> float | None:
    """Return the sum of a metric's series in Prometheus' text format, None if it has none, or one that is no number.

    ``NaN`` and ``+Inf``, which the format has, are no load that can be followed.
    """
    values = re.findall(rf"^{re.escape(name)}(?:\{{[^\n]*\}})?[ \t]+([^\s]+)", page, re.MULTILINE)
    try:
        total = sum(map(float, values))
    except ValueError:
        return None
    return total if values and math.isfinite(total) else None


def proxy_samples(scale: Scale, loads: list[ProxyLoad], version: str) -> list[LoadSample]:
    """Return what the proxy saw of a version, the mean of several looks; nothing if it saw nothing."""
    pools = [load.pools[version] for load in loads if version in load.pools]
    if not pools:
        return []
    totals = {
        "in-flight": sum(pool.in_flight + pool.queued for pool in pools) / len(pools),
        "queue": sum(pool.queued for pool in pools) / len(pools),
    }
    return [LoadSample(total=totals[name], target=target) for name, target in scale.targets if name in totals]


def cpu_sample(target: float, used: float | None, cpus: float) -> list[LoadSample]:
    """Return a sample of CPUs in use; ``target`` is per cent of the ``cpus`` that a replica may use."""
    return [] if used is None else [LoadSample(total=used, target=target / _PERCENT * cpus)]


def _follows(before: tuple[float, float] | None, now: tuple[float, float]) -> bool:
    """Return whether a time and the seconds used are of the same container as those before, and later."""
    return before is not None and now[0] > before[0] and now[1] >= before[1]


@dataclass(slots=True, kw_only=True)
class GpuMeter:
    """The GPUs that containers use, by their programs: ``measure`` asks the driver, ``find_container`` the kernel."""

    measure: Callable[[], tuple[GpuUse, ...]] = tuple
    find_container: Callable[[int], str] = field(default_factory=lambda: CgroupReader().find_container)
    find_id: Callable[[str], str] = find_id
    _looks: list[Mapping[str, tuple[ContainerGpu, ...]]] = field(default_factory=list)

    def begin(self) -> None:
        """Forget what was seen."""
        self._looks.clear()

    def look(self) -> None:
        """Note what every container uses now."""
        self._looks.append(divide(self.measure(), self.find_container))

    def read(self, containers: Sequence[str]) -> float | None:
        """Return how many GPUs compute for containers, the mean of all looks; None if nothing is known of any.

        One of which nothing is known counts as the others.
        """
        ids = [self.find_id(name) for name in containers]
        shares = [look.get(one, ()) for look in self._looks for one in ids]
        known = [[gpu.utilisation for gpu in gpus if gpu.utilisation is not None] for gpus in shares]
        found = [sum(busy) for busy in known if busy]
        return sum(found) / len(found) * len(ids) if found else None


def gpu_sample(target: float, used: float | None, gpus: int) -> list[LoadSample]:
    """Return a sample of GPUs in use; ``target`` is per cent of the ``gpus`` of a replica."""
    return [] if used is None else [LoadSample(total=used, target=target / _PERCENT * gpus)]


def metric_samples(scale: Scale, pages: list[str]) -> list[LoadSample]:
    """Return samples of the service's own metrics; one that a replica lacks gives none."""
    samples = []
    for name, target in scale.targets:
        if name.startswith("metric:"):
            found = [sum_metric(page, name.removeprefix("metric:")) for page in pages]
            known = [value for value in found if value is not None]
            if known and len(known) == len(found) and math.isfinite(sum(known)):
                samples.append(LoadSample(total=sum(known), target=target))
    return samples
