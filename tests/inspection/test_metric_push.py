"""Metrics to a real receiver of OTLP, and one that does not answer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from buildkit.cli.monitor import _pushing
from buildkit.errors import DefinitionError
from buildkit.inspection.metric_push import open_push
from tests.inspection.test_live_monitor import GPU, WatchedHost
from tests.otlpcollector import attributes, serve_collector
from tests.waiting import wait_until

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SOON = {"OTEL_METRIC_EXPORT_INTERVAL": "20"}


def test_metrics_arrive_under_names_of_the_conventions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=ml")
    watched = WatchedHost(tmp_path)
    watched.host.add(11)
    watched.host.gpus = (GPU,)
    with serve_collector() as collector, open_push(watched.monitor, SOON | {ENDPOINT: collector.url}):
        wait_until(lambda: len(collector.exports) > 1)
    assert "xoe_build_layers" not in collector.metrics
    (point,) = collector.metrics["container.cpu.time"].sum.data_points
    assert (point.as_double, attributes(point.attributes)["container.name"]) == (3.0, "c0011")
    assert point.time_unix_nano == 5_000_000_000
    assert collector.metrics["container.cpu.time"].sum.is_monotonic
    assert collector.metrics["container.cpu.time"].unit == "s"
    assert not collector.metrics["container.memory.usage"].sum.is_monotonic
    ways = {attributes(one.attributes)["disk.io.direction"]: one.as_int for one in
            collector.metrics["container.disk.io"].sum.data_points}  # fmt: skip
    assert ways == {"read": 15, "write": 20}
    (gpu,) = collector.metrics["hw.gpu.utilization"].gauge.data_points
    assert attributes(gpu.attributes).items() >= {"hw.id": "GPU-a", "hw.name": "H200", "hw.type": "gpu"}.items()
    about = attributes(collector.exports[-1].resource_metrics[0].resource.attributes)
    assert (about["service.name"], about["team"]) == ("xoe-monitor", "ml")


def test_a_collector_that_refuses_is_said_once_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    watched = WatchedHost(tmp_path)
    with serve_collector(status=400) as collector:
        with open_push(watched.monitor, SOON | {ENDPOINT: collector.url}):
            wait_until(lambda: watched.monitor.errors["otlp"] > 2)
        said = capfd.readouterr().err
        assert said.count("warning: metrics do not reach") == 1
        assert "it answered HTTP 400" in said
    assert watched.metrics()["xoe_monitor_errors_total"][(("source", "otlp"),)] > 2


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "needs a collector"),
        ({ENDPOINT: "localhost:4317"}, "no URL of a collector"),
        (
            {ENDPOINT: "http://x", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"},
            "the monitor sends",
        ),
        ({ENDPOINT: "http://x", "OTEL_METRIC_EXPORT_INTERVAL": "soon"}, "not 1 to 600000"),
        ({ENDPOINT: "http://x", "OTEL_SDK_DISABLED": "true"}, "needs a collector"),
    ],
)
def test_wrong_variables_are_errors(tmp_path: Path, env: dict[str, str], message: str) -> None:
    with pytest.raises(DefinitionError, match=message), open_push(WatchedHost(tmp_path).monitor, env):
        pass


def test_a_missing_sdk_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("buildkit.inspection.metric_push", "buildkit.tools.otlp_metrics"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)
    with pytest.raises(DefinitionError) as caught, _pushing(WatchedHost(tmp_path).monitor):
        pass
    assert caught.value.hint == "pip install 'xoe-buildkit[tracing]'"
