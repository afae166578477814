"""Metrics under OpenTelemetry's names where its conventions have them. Pure.

Source: *Semantic conventions for container metrics* and *for hardware metrics* (status: development). Metrics that they
do not name keep Prometheus' name, without the ending of counters, which collectors add.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from buildkit.monitor.metrics import Labels, MetricFamily, Sample, clean_label

_READ, _WRITE = (("disk.io.direction", "read"),), (("disk.io.direction", "write"),)
_IN, _OUT = (("network.io.direction", "receive"),), (("network.io.direction", "transmit"),)
_GPU = (("hw.type", "gpu"),)
_NAMES: dict[str, tuple[str, Labels]] = {
    "container_cpu_usage_seconds_total": ("container.cpu.time", ()),
    "container_memory_usage_bytes": ("container.memory.usage", ()),
    "container_memory_working_set_bytes": ("container.memory.working_set", ()),
    "container_fs_reads_bytes_total": ("container.disk.io", _READ),
    "container_fs_writes_bytes_total": ("container.disk.io", _WRITE),
    "container_network_receive_bytes_total": ("container.network.io", _IN),
    "container_network_transmit_bytes_total": ("container.network.io", _OUT),
    "xoe_gpu_utilisation_ratio": ("hw.gpu.utilization", _GPU),
    "xoe_gpu_memory_used_bytes": ("hw.gpu.memory.usage", _GPU),
    "xoe_gpu_memory_total_bytes": ("hw.gpu.memory.limit", _GPU),
}
_SUMS = ("container.memory.usage", "container.memory.working_set", "hw.gpu.memory.usage", "hw.gpu.memory.limit")
_CONTAINER = {"name": "container.name", "image": "container.image.name"}
_DEVICE = {"uuid": "hw.id", "gpu_name": "hw.name", "name": "container.name"}
_UNITS = {"seconds": "s", "bytes": "By", "ratio": "1", "celsius": "Cel", "watts": "W"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OtelMetric:
    """A metric as OTLP has it: ``kind`` is ``counter``, ``sum`` (which may fall) or ``gauge``; ``unit`` is UCUM's."""

    name: str
    unit: str
    text: str
    kind: str
    points: tuple[Sample, ...]


def otel_metrics(families: Iterable[MetricFamily]) -> tuple[OtelMetric, ...]:
    """Return the metrics that have samples; what OpenTelemetry tells apart by attributes is one metric."""
    found: dict[str, OtelMetric] = {}
    for family in families:
        if not family.samples:
            continue
        one = _convert(family)
        if before := found.get(one.name):
            one = replace(before, points=before.points + one.points)
        found[one.name] = one
    return tuple(found.values())


def _convert(family: MetricFamily) -> OtelMetric:
    plain = family.name.removesuffix("_total")
    name, more = _NAMES.get(family.name, (plain, ()))
    words = _DEVICE if family.name.startswith("xoe_gpu_") else _CONTAINER
    kind = "counter" if family.kind == "counter" else "sum" if name in _SUMS else "gauge"
    points = tuple((_rename(labels, words) + more, value) for labels, value in family.samples)
    unit = _UNITS.get(plain.rpartition("_")[2], "")
    return OtelMetric(name=name, unit=unit, text=family.help, kind=kind, points=points)


def _rename(labels: Labels, words: dict[str, str]) -> Labels:
    return tuple((words.get(name, name), clean_label(value)) for name, value in labels if value)
