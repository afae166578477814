"""What each alert fires for: series by minute, when it is quiet, when it fires and with what, and when it has ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Series in promtool's notation, one value a minute; minutes at which the alert is quiet, fires, and has ended.

    ``labels`` are those of the alert without ``severity``; ``extra`` are values of another kind that it must not fire
    for.
    """

    alert: str
    series: dict[str, str]
    labels: dict[str, str]
    summary: str
    severity: str
    quiet: int = 5
    fires: int = 35
    ended: int = 120


C, G, S = {"name": "app", "image": "p/app"}, {"uuid": "GPU-1", "index": "0"}, {"service": "app", "instance": "app"}
B = {"service": "busy", "instance": "busy"}
M = {**S, "model": "vad", "version": "a1"}
LATE = {"fires": 100, "ended": 200}


def text(name: str, labels: dict[str, str], **more: str) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in (labels | more).items())
    return f"{name}{{{inside}}}"


def gauge(low: str, high: str) -> str:
    """A value that is low for ten minutes, high for thirty (from minute 10), and low again."""
    return f"{low}x9 {high}x29 {low}x200"


def slow(low: str, high: str) -> str:
    return f"{low}x9 {high}x99 {low}x200"


def counter(rate: int) -> str:
    """A counter that grows by ``rate`` a minute from minute 10 to 39."""
    return f"0x9 0+{rate}x29 {rate * 29}x200"


CASES = (
    Case(
        alert="ContainerOomKilled", series={text("container_oom_events_total", C): "0x19 1x200"}, labels=C, fires=25,
        summary="app: the kernel ended a process because memory was short", severity="critical",
    ),
    Case(
        alert="ContainerMemoryNearLimit",
        series={
            text("container_memory_working_set_bytes", C): gauge("500", "950"),
            text("container_spec_memory_limit_bytes", C): "1000x300",
        },
        labels=C, summary="app uses 95% of its memory", severity="warning",
    ),
    Case(
        alert="ContainerMemoryStalls",
        series={text("container_pressure_memory_stalled_seconds_total", C): counter(30)}, labels=C,
        summary="app waits for memory 50% of the time", severity="warning",
    ),
    Case(
        alert="ContainerThrottled",
        series={
            text("container_cpu_cfs_throttled_periods_total", C): counter(300),
            text("container_cpu_cfs_periods_total", C): "0+600x300",
        },
        labels=C, summary="app waits for its share of CPU in 50% of periods", severity="warning",
    ),
    Case(
        alert="ContainerThreadsNearLimit",
        series={text("container_threads", C): gauge("10", "95"), text("container_threads_max", C): "100x300"},
        labels=C, summary="app has 95% of the processes and threads that it may", severity="warning",
    ),
    Case(
        alert="ContainerRestarting",
        series={text("xoe_container_restarts_total", {"name": "app"}): "0x19 0+1x15 15x200"},
        labels={"name": "app"}, summary="app was restarted 15 times in 15 minutes", severity="critical",
    ),
    Case(
        alert="ContainerUnhealthy",
        series={text("xoe_container_health", {"name": "app"}, state="unhealthy"): gauge("0", "1")},
        labels={"name": "app", "state": "unhealthy"}, summary="app fails its health check", severity="critical",
    ),
    Case(
        alert="ContainerImageDiffers",
        series={text("xoe_container_info", {"name": "app"}, current="false"): "_x9 1x99 stale"},
        labels={"name": "app", "current": "false"}, severity="info", **LATE,
        summary="app runs another image than the checkout would build",
    ),
    Case(
        alert="GpuMemoryNearlyFull",
        series={
            text("xoe_gpu_memory_used_bytes", G): gauge("10", "98"),
            text("xoe_gpu_memory_total_bytes", G): "100x300",
        },
        labels=G, summary="GPU 0 uses 98% of its memory", severity="warning",
    ),
    Case(
        alert="GpuHot", series={text("xoe_gpu_temperature_celsius", G): gauge("60", "91")}, labels=G,
        summary="GPU 0 has 91 °C", severity="warning",
    ),
    Case(
        alert="GpuXid", series={text("xoe_gpu_xid", G): "0x19 79x200"}, labels=G,
        summary="GPU 0: the driver reports XID 79", severity="critical",
    ),
    Case(
        alert="GpuEccUncorrected",
        series={
            text("xoe_gpu_ecc_errors_total", G, kind="uncorrected"): "0x19 2x300",
            text("xoe_gpu_ecc_errors_total", G, kind="corrected"): "0+5x300",
        },
        labels={**G, "kind": "uncorrected"}, severity="critical",
        summary="GPU 0 had errors in memory that could not be corrected",
    ),
    Case(
        alert="GpuDown", series={text("xoe_gpu_up", G): gauge("1", "0")}, labels=G, summary="GPU 0 does not answer",
        severity="critical",
    ),
    Case(
        alert="GpuUnreadable", series={text("xoe_monitor_errors_total", {"source": "nvml"}): counter(1)},
        labels={"source": "nvml"}, summary="the driver does not tell what GPUs do", severity="warning",
    ),
    Case(
        alert="SevereFinding",
        series={text("xoe_findings", {"rule": "drift", "severity": "high", "container": "app"}): gauge("0", "2")},
        labels={"rule": "drift", "container": "app"}, summary="app: drift (2)", severity="critical",
    ),
    Case(
        alert="Finding",
        series={
            text("xoe_findings", {"rule": "x", "severity": "medium", "container": "p-observe-monitor"}): "1x300",
            text("xoe_findings", {"rule": "root", "severity": "medium", "container": "app"}): gauge("0", "1")},
        labels={"rule": "root", "container": "app"}, summary="app: root (1)", severity="warning",
    ),
    Case(
        alert="AuditIncomplete", series={"xoe_findings_complete": gauge("1", "0")}, labels={}, severity="warning",
        summary="the audit of running containers could not read everything: no finding does not mean clean",
    ),
    Case(
        alert="AuditOld", series={"xoe_findings_timestamp_seconds": "0+60x9 600x29 2400+60x200"}, labels={},
        summary="the last audit of running containers was 25m 0s ago", severity="warning",
    ),
    Case(
        alert="ServiceSlow",
        series={
            text("speech_http_request_seconds_bucket", S, le="1", status="200"): "0+60x9 600x29 600+60x200",
            text("speech_http_request_seconds_bucket", S, le="5", status="200"): "0+60x300",
            text("speech_http_request_seconds_bucket", S, le="+Inf", status="200"): "0+60x300",
            text("speech_http_request_seconds_bucket", S, le="+Inf", status="503"): "0+900x300",
        },
        labels=S, summary="app: 5 % of requests take longer than 4.8s", severity="warning",
    ),
    Case(
        alert="ServiceErrors",
        series={
            text("speech_http_requests_total", S, status="200"): "0+60x300",
            text("speech_http_requests_total", S, status="500"): counter(60),
        },
        labels=S, summary="app fails 50% of requests", severity="critical",
    ),
    Case(
        alert="ServiceSaturated",
        series={
            text("speech_http_requests_total", B, status="200"): "0+60x300",
            text("speech_http_requests_total", B, status="503"): counter(60),
        },
        labels=B, summary="busy refuses 50% of requests: it is busy", severity="warning",
    ),
    Case(
        alert="ServiceNotReady", series={text("speech_ready", S): gauge("1", "0")}, labels=S, severity="critical",
        summary="app runs and is not ready: its model is not loaded, or does not answer",
    ),
    Case(
        alert="ModelDrift", series={text("model_drift_psi", M, signal="level"): gauge("0.05", "0.35")},
        labels={**M, "signal": "level"}, severity="warning",
        summary="vad: level differs from the reference profile (PSI 0.35)",
    ),
    Case(
        alert="ModelFails",
        series={
            text("model_requests_total", M, outcome="ok"): "0+60x300",
            text("model_requests_total", M, outcome="failed"): counter(60),
        },
        labels=M, summary="vad a1 fails 50% of requests", severity="critical",
    ),
    Case(
        alert="ModelWithoutProfile", series={text("model_drift_profile_info", M): gauge("1", "0")}, labels=M,
        summary="vad a1 has no reference profile: its drift is not measured", severity="info",
    ),
    Case(
        alert="HostDiskNearlyFull",
        series={
            text("node_filesystem_avail_bytes", {"mountpoint": "/"}): gauge("50", "5"),
            text("node_filesystem_size_bytes", {"mountpoint": "/"}): "100x300",
        },
        labels={"mountpoint": "/"}, summary="5% of the disk with the containers is left", severity="critical",
    ),
    Case(
        alert="HostMemoryLow",
        series={"node_memory_MemAvailable_bytes": gauge("50", "2"), "node_memory_MemTotal_bytes": "100x300"}, labels={},
        summary="2% of the host's memory is available", severity="critical",
    ),
    Case(
        alert="TargetDown",
        series={
            text("up", {"instance": "app"}): gauge("1", "0"),
            text("up", {"instance": "app-3"}, may_rest="true"): "0x300",
        },
        labels={"instance": "app"}, summary="app does not tell its metrics", severity="critical",
    ),
    Case(
        alert="MonitorStale", series={"xoe_monitor_state_age_seconds": gauge("3", "90")}, labels={},
        severity="critical",
        summary="the monitor has seen nothing of containers and GPUs for 1m 30s",
    ),
    Case(
        alert="MonitorErrors", series={text("xoe_monitor_errors_total", {"source": "podman"}): counter(1)},
        labels={"source": "podman"}, summary="the monitor cannot read podman", severity="warning",
    ),
    Case(
        alert="MonitorLeavesOut", series={"xoe_monitor_containers_left_out": gauge("0", "7")}, labels={},
        summary="the monitor leaves out 7 containers: there are too many", severity="warning",
    ),
    Case(
        alert="RulesFail", series={text("prometheus_rule_evaluation_failures_total", {"rule_group": "x"}): counter(1)},
        labels={"rule_group": "x"}, summary="rules of x fail: alerts may be missing", severity="critical",
    ),
    Case(
        alert="SeriesGrow", series={"prometheus_tsdb_head_series": gauge("9000", "250000")}, labels={},
        summary="Prometheus holds 250k series: a label may grow without bound", severity="warning",
    ),
    Case(
        alert="StorageFails", series={"prometheus_tsdb_wal_writes_failed_total": counter(1)}, labels={},
        summary="Prometheus cannot write what it measured", severity="critical",
    ),
    Case(
        alert="AlertmanagerUnreachable", series={"prometheus_notifications_errors_total": counter(1)}, labels={},
        summary="Prometheus could not hand alerts to Alertmanager", severity="critical",
    ),
    Case(
        alert="AlertsDropped", series={"prometheus_notifications_dropped_total": "0x9 0+1x29 29x200"}, labels={},
        summary="5 messages to Alertmanager were dropped; what still fires is sent again", severity="warning",
    ),
    Case(
        alert="NotificationsFail",
        series={text("alertmanager_notifications_failed_total", {"integration": "webhook"}): counter(1)},
        labels={"integration": "webhook"}, summary="Alertmanager could not tell anybody by webhook",
        severity="critical",
    ),
)  # fmt: skip
ALWAYS = "Watchdog"
