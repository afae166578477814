"""Dashboards of containers and of GPUs: what xoe-monitor says (docs/monitoring.md). Pure."""

from __future__ import annotations

from buildkit.observe.dashboards.dashboard import Dashboard, LabelChoice, Panel, PanelQuery, PanelRow, Unit

_CHOSEN = '{name=~"$container"}'


def _by_container(title: str, about: str, unit: Unit, query: str) -> Panel:
    """Return a chart with a line for each chosen container; ``@`` stands for the choice."""
    queries = (PanelQuery(text=query.replace("@", _CHOSEN), legend="{{name}}"),)
    return Panel(title=title, about=about, unit=unit, queries=queries)


def _by_direction(title: str, about: str, named: tuple[tuple[str, str], ...]) -> Panel:
    queries = tuple(
        PanelQuery(text=f"sum by (name) (rate({metric}{_CHOSEN}[$__rate_interval]))", legend=f"{{{{name}}}} {word}")
        for word, metric in named
    )
    return Panel(title=title, about=about, unit=Unit.BYTES_PER_SECOND, queries=queries)


def _number(title: str, about: str, query: str) -> Panel:
    queries = (PanelQuery(text=query),)
    return Panel(title=title, about=about, unit=Unit.COUNT, queries=queries, is_number=True, width=6, height=4)


_NOW = PanelRow(
    title="Now",
    panels=(
        _number("Running", "Containers that run.", "count(xoe_container_running) or vector(0)"),
        _number(
            "Unhealthy",
            "Containers whose health check fails.",
            'count(xoe_container_health{state="unhealthy"} == 1) or vector(0)',
        ),
        _number(
            "OOM kills",
            "Processes that the kernel killed in the last hour, because memory was missing.",
            "sum(increase(container_oom_events_total[1h])) or vector(0)",
        ),
        _number(
            "Other images",
            "Containers whose image is not what the checkout builds.",
            'count(xoe_container_info{current="false"}) or vector(0)',
        ),
    ),
)

_CPU = PanelRow(
    title="CPU",
    panels=(
        _by_container(
            "CPUs in use",
            "CPUs that a container keeps busy.",
            Unit.COUNT,
            "sum by (name) (rate(container_cpu_usage_seconds_total@[$__rate_interval]))",
        ),
        _by_container(
            "Throttled",
            "Share of the limit's periods in which a container had used it up, and waited.",
            Unit.SHARE,
            "sum by (name) (rate(container_cpu_cfs_throttled_periods_total@[$__rate_interval]))"
            " / sum by (name) (rate(container_cpu_cfs_periods_total@[$__rate_interval]))",
        ),
    ),
)

_MEMORY = PanelRow(
    title="Memory",
    panels=(
        _by_container(
            "Working set",
            "Memory without idle cache, as Kubernetes counts.",
            Unit.BYTES,
            "sum by (name) (container_memory_working_set_bytes@)",
        ),
        _by_container(
            "Of the limit",
            "Working set by the memory limit; at 1 the kernel kills.",
            Unit.SHARE,
            "sum by (name) (container_memory_working_set_bytes@)"
            " / sum by (name) (container_spec_memory_limit_bytes@ > 0)",
        ),
    ),
)

_WAITING = PanelRow(
    title="Waiting (PSI)",
    panels=tuple(
        _by_container(
            f"For {what}",
            f"Share of time in which a process waited for {what}.",
            Unit.SHARE,
            f"sum by (name) (rate(container_pressure_{name}_waiting_seconds_total@[$__rate_interval]))",
        )
        for what, name in (("CPUs", "cpu"), ("memory", "memory"), ("disks", "io"))
    ),
)

_TRAFFIC = PanelRow(
    title="Disks and network",
    panels=(
        _by_direction(
            "Disks",
            "Bytes a second; what a cache answered is not among them.",
            (("read", "container_fs_reads_bytes_total"), ("written", "container_fs_writes_bytes_total")),
        ),
        _by_direction(
            "Network",
            "Bytes a second on the container's own interfaces.",
            (("in", "container_network_receive_bytes_total"), ("out", "container_network_transmit_bytes_total")),
        ),
    ),
)

_ENDS = PanelRow(
    title="Restarts and kills",
    panels=(
        _by_container(
            "Restarts",
            "Restarts within ten minutes.",
            Unit.COUNT,
            "sum by (name) (increase(xoe_container_restarts_total@[10m]))",
        ),
        _by_container(
            "OOM kills",
            "Processes killed within ten minutes, because memory was missing.",
            Unit.COUNT,
            "sum by (name) (increase(container_oom_events_total@[10m]))",
        ),
        _by_container("Processes", "Processes and threads.", Unit.COUNT, "sum by (name) (container_threads@)"),
    ),
)

CONTAINERS = Dashboard(
    name="xoe-containers",
    title="Containers",
    about="What containers use and may use, from the kernel's own figures.",
    choices=(LabelChoice(name="container", metric="xoe_container_running", label="name"),),
    rows=(_NOW, _CPU, _MEMORY, _WAITING, _TRAFFIC, _ENDS),
)


def _by_gpu(title: str, about: str, unit: Unit, query: str, legend: str = "GPU {{index}}") -> Panel:
    return Panel(title=title, about=about, unit=unit, queries=(PanelQuery(text=query, legend=legend),))


GPUS = Dashboard(
    name="xoe-gpus",
    title="GPUs",
    about="What GPUs do, and for which containers, from NVML.",
    rows=(
        PanelRow(
            title="Use",
            panels=(
                _by_gpu("Busy", "Share of time in which a GPU computed.", Unit.SHARE, "xoe_gpu_utilisation_ratio"),
                _by_gpu(
                    "Memory",
                    "Share of a GPU's memory that is in use.",
                    Unit.SHARE,
                    "xoe_gpu_memory_used_bytes / xoe_gpu_memory_total_bytes",
                ),
                _by_gpu(
                    "Memory by container",
                    "Bytes of a GPU's memory that the programs of a container have.",
                    Unit.BYTES,
                    "sum by (name, uuid) (xoe_gpu_container_memory_bytes)",
                    "{{name}} on {{uuid}}",
                ),
            ),
        ),
        PanelRow(
            title="State",
            panels=(
                _by_gpu("Temperature", "In degrees Celsius.", Unit.CELSIUS, "xoe_gpu_temperature_celsius"),
                _by_gpu("Power", "In watts.", Unit.WATTS, "xoe_gpu_power_watts"),
                _by_gpu(
                    "ECC errors",
                    "Memory errors within an hour; those that are uncorrected lose data.",
                    Unit.COUNT,
                    "sum by (index, kind) (increase(xoe_gpu_ecc_errors_total[1h]))",
                    "GPU {{index}} {{kind}}",
                ),
                _by_gpu("XID", "The last error code of the driver; 0 is none.", Unit.COUNT, "xoe_gpu_xid"),
            ),
        ),
    ),
)
