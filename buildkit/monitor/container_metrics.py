"""Containers as metrics, under cAdvisor's names where it has them. Pure.

Source: cAdvisor's *Monitoring cAdvisor with Prometheus* (docs/storage/prometheus.md). Ids and process numbers are no
labels: each restart would make new series for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from buildkit.monitor.metrics import MetricFamily, Sample, clean_label, counter, gauge
from buildkit.monitor.snapshot import ContainerView, Snapshot
from buildkit.monitor.usage import CgroupUsage, PressureStall

_PERIOD = 100_000  # microseconds, in which the quota is said
_HEALTH = ("starting", "healthy", "unhealthy")
_Figure = Callable[[CgroupUsage, ContainerView], float | None]


def _some(stall: PressureStall | None) -> float | None:
    return None if stall is None else stall.total


def _full(stall: PressureStall | None) -> float | None:
    return None if stall is None else stall.full_total


_COUNTERS: tuple[tuple[str, str, _Figure], ...] = (
    ("container_cpu_usage_seconds_total", "CPU time used.", lambda u, _: u.cpu_seconds),
    ("container_cpu_cfs_periods_total", "Periods of the CPU limit.", lambda u, _: u.periods),
    ("container_cpu_cfs_throttled_periods_total", "Periods in which the limit was used up.", lambda u, _: u.throttled),
    ("container_cpu_cfs_throttled_seconds_total", "Time waited for a new period.", lambda u, _: u.throttled_seconds),
    (
        "container_oom_events_total",
        "Processes killed because memory was missing, since the monitor began.",
        lambda _, v: v.oom_kills,
    ),
    ("container_network_receive_bytes_total", "Bytes received, without loopback.", lambda u, _: u.received),
    ("container_network_transmit_bytes_total", "Bytes sent, without loopback.", lambda u, _: u.sent),
    ("container_fs_reads_bytes_total", "Bytes read from disks.", lambda u, _: u.read),
    ("container_fs_writes_bytes_total", "Bytes written to disks.", lambda u, _: u.written),
    (
        "container_pressure_cpu_waiting_seconds_total",
        "Time in which a process waited for a CPU.",
        lambda u, _: _some(u.cpu_pressure),
    ),
    (
        "container_pressure_cpu_stalled_seconds_total",
        "Time in which all processes waited for a CPU.",
        lambda u, _: _full(u.cpu_pressure),
    ),
    (
        "container_pressure_memory_waiting_seconds_total",
        "Time in which a process waited for memory.",
        lambda u, _: _some(u.memory_pressure),
    ),
    (
        "container_pressure_memory_stalled_seconds_total",
        "Time in which all processes waited for memory.",
        lambda u, _: _full(u.memory_pressure),
    ),
    (
        "container_pressure_io_waiting_seconds_total",
        "Time in which a process waited for a disk.",
        lambda u, _: _some(u.io_pressure),
    ),
    (
        "container_pressure_io_stalled_seconds_total",
        "Time in which all processes waited for a disk.",
        lambda u, _: _full(u.io_pressure),
    ),
)
_GAUGES: tuple[tuple[str, str, _Figure], ...] = (
    ("container_memory_usage_bytes", "Memory in use, with caches.", lambda u, _: u.memory),
    ("container_memory_working_set_bytes", "Memory in use without idle caches.", lambda u, _: u.working_set),
    ("container_spec_memory_limit_bytes", "Limit of memory; absent without one.", lambda _, v: v.limits.memory),
    (
        "container_spec_cpu_quota",
        "CPU time in a period, in microseconds; absent without a limit.",
        lambda _, v: None if v.limits.cpus is None else round(v.limits.cpus * _PERIOD),
    ),
    (
        "container_spec_cpu_period",
        "Length of a period, in microseconds; absent without a limit.",
        lambda _, v: None if v.limits.cpus is None else _PERIOD,
    ),
    ("container_threads", "Processes and threads.", lambda u, _: u.pids),
    ("container_threads_max", "Limit of processes and threads; absent without one.", lambda _, v: v.limits.pids),
)


def container_families(
    snapshot: Snapshot, stages: Mapping[str, str], most: int
) -> tuple[tuple[MetricFamily, ...], tuple[ContainerView, ...]]:
    """Return the metrics of the running containers, and those of them that are shown: at most ``most``.

    Those of the project come first, then those whose names do. ``stages`` are names of stages by those of images.
    """
    running = [view for view in snapshot.containers if view.usage is not None]
    if len(running) > most:
        running.sort(key=lambda view: (not view.container.project, view.container.name, view.container.id))
    shown = tuple(_without_doubles(running[:most]))
    left_out = len(running) - len(shown)
    return (
        *_figures(shown, snapshot.time),
        *_descriptions(shown, stages),
        gauge("xoe_monitor_containers", "Running containers.", ((), len(running))),
        gauge("xoe_monitor_containers_left_out", "Containers beyond the most that are shown.", ((), left_out)),
    ), shown


def _without_doubles(views: Iterable[ContainerView]) -> Iterable[ContainerView]:
    """Leave out a second container of a name, which podman does not allow: Prometheus would refuse all."""
    found: dict[str, ContainerView] = {}
    for view in views:
        found.setdefault(clean_label(view.container.name), view)
    return found.values()


def _figures(views: tuple[ContainerView, ...], time: float) -> Iterable[MetricFamily]:
    labelled = [
        (view.usage, view, (("name", view.container.name), ("image", view.container.image_name)))
        for view in views
        if view.usage
    ]
    for kind, table in (("counter", _COUNTERS), ("gauge", _GAUGES)):
        for name, text, figure in table:
            samples = tuple(
                (labels, value) for usage, view, labels in labelled if (value := figure(usage, view)) is not None
            )
            yield MetricFamily(name=name, kind=kind, help=text, samples=samples)
    seen = tuple((labels, time) for _, _, labels in labelled)
    yield gauge("container_last_seen", "When the container was seen last, in seconds since 1970.", *seen)


def _descriptions(views: tuple[ContainerView, ...], stages: Mapping[str, str]) -> Iterable[MetricFamily]:
    infos: list[Sample] = []
    for view in views:
        one = view.container
        current = {True: "true", False: "false", None: ""}[view.expected]
        digest, project, stage = one.digest, one.project, stages.get(one.image_name, "")
        named = (("name", one.name), ("image", one.image_name))
        infos.append(((*named, ("digest", digest), ("project", project), ("stage", stage), ("current", current)), 1))
    yield MetricFamily(
        name="xoe_container_info",
        kind="info",
        help="What a container is; current: whether this checkout would build its image.",
        samples=tuple(infos),
    )
    names = [(view.container, ("name", view.container.name)) for view in views]
    running = (((name, ("image", one.image_name)), 1) for one, name in names)
    yield gauge("xoe_container_running", "1 for each container that runs.", *running)
    yield counter(
        "xoe_container_restarts_total", "Restarts by podman.", *(((name,), one.restarts) for one, name in names)
    )
    yield gauge(
        "xoe_container_health",
        "1 for the state of health that a container has.",
        *(
            ((name, ("state", state)), int(one.health == state))
            for one, name in names
            if one.health in _HEALTH
            for state in _HEALTH
        ),
    )
