"""What a version has to do: the figures by which it is scaled, summed over its replicas."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable

from buildkit.declare.rollout import Scale
from buildkit.rollout.haproxy_answers import ProxyLoad
from buildkit.rollout.hpa import LoadSample
from buildkit.tools.container_cpu import read_cpu_seconds

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
        known = [name for name in found if name in self._before and found[name][0] > self._before[name][0]]
        rates = [(found[name][1] - self._before[name][1]) / (found[name][0] - self._before[name][0]) for name in known]
        self._before = found
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
