"""GPUs as metrics: the devices, and the containers' parts of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from buildkit.gpu.use import GpuUse
from buildkit.monitor.metrics import Labels, MetricFamily, counter, gauge
from buildkit.monitor.snapshot import ContainerView

_GAUGES: tuple[tuple[str, str, Callable[[GpuUse], float | None]], ...] = (
    ("xoe_gpu_up", "Whether the GPU answered.", lambda one: int(not one.problem)),
    (
        "xoe_gpu_utilisation_ratio",
        "Share of the last period in which the GPU computed, 0 to 1.",
        lambda one: one.utilisation,
    ),
    ("xoe_gpu_memory_used_bytes", "Memory of the GPU in use.", lambda one: one.memory),
    ("xoe_gpu_memory_total_bytes", "Memory of the GPU.", lambda one: one.total),
    ("xoe_gpu_temperature_celsius", "Temperature of the GPU.", lambda one: one.health.temperature),
    ("xoe_gpu_power_watts", "Power that the GPU draws.", lambda one: one.health.power),
    (
        "xoe_gpu_xid",
        "Code of the last critical error since the monitor began; 0 if there was none.",
        lambda one: one.health.xid,
    ),
)


def gpu_families(uses: Iterable[GpuUse], views: Iterable[ContainerView]) -> tuple[MetricFamily, ...]:
    """Return the metrics of GPUs, and those of the containers that are shown."""
    named = [(_labels(use), use) for use in uses if use.uuid]
    parts = [((("uuid", gpu.uuid), ("name", view.container.name)), gpu) for view in views for gpu in view.gpus]
    memory = [(labels, gpu.memory) for labels, gpu in parts if gpu.memory is not None]
    busy = [(labels, gpu.utilisation) for labels, gpu in parts if gpu.utilisation is not None]
    return (
        *_gauges(named),
        _errors(named),
        gauge("xoe_gpu_container_memory_bytes", "Memory of a GPU that a container has.", *memory),
        gauge("xoe_gpu_container_utilisation_ratio", "Share of the time in which a container computed.", *busy),
    )


def _labels(use: GpuUse) -> Labels:
    return (("uuid", use.uuid), ("index", str(use.index)), ("gpu_name", use.health.name))


def _gauges(named: list[tuple[Labels, GpuUse]]) -> Iterator[MetricFamily]:
    for name, text, figure in _GAUGES:
        yield gauge(name, text, *((labels, value) for labels, use in named if (value := figure(use)) is not None))


def _errors(named: list[tuple[Labels, GpuUse]]) -> MetricFamily:
    samples = [
        ((*labels, ("kind", kind)), value)
        for labels, use in named
        for kind, value in (("corrected", use.health.corrected), ("uncorrected", use.health.uncorrected))
        if value is not None
    ]
    return counter("xoe_gpu_ecc_errors_total", "Errors of the GPU's memory since the driver was loaded.", *samples)
