"""Metrics of containers: names, labels and text, as Prometheus' own readers take them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from buildkit.monitor.container_metrics import container_families
from buildkit.monitor.containers import WatchedContainer
from buildkit.monitor.metrics import (
    OPENMETRICS,
    PROMETHEUS,
    MetricFamily,
    choose_format,
    counter,
    gauge,
    render_metrics,
)
from buildkit.monitor.otel_names import otel_metrics
from buildkit.monitor.snapshot import ContainerView, Snapshot
from buildkit.monitor.usage import CgroupLimits, CgroupUsage, PressureStall

STALL = PressureStall(some=0.1, full=0.0, total=3.5, full_total=1.25)
USAGE = CgroupUsage(
    cpu_seconds=12.5,
    periods=100,
    throttled=25,
    throttled_seconds=0.75,
    memory=3_000_000,
    idle_cache=1_000_000,
    oom_kills=7,
    pids=4,
    read=1,
    written=2,
    received=3,
    sent=4,
    cpu_pressure=STALL,
    memory_pressure=STALL,
    io_pressure=STALL,
)
APP = WatchedContainer(
    id="ab" * 32, name="app", pid=77_777, image="cd" * 32, image_name="localhost/p/runtime:latest",
    digest="sha256:" + "ef" * 32, health="healthy", restarts=2, project="p",
)  # fmt: skip
VIEW = ContainerView(
    container=APP, usage=USAGE, limits=CgroupLimits(cpus=0.5, memory=8_000_000, pids=20), oom_kills=3, expected=True
)
STAGES = {APP.image_name: "runtime"}
PROMETHEUS_ASKS = (  # Prometheus 2.53
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def families(*views: ContainerView, most: int = 100) -> tuple[MetricFamily, ...]:
    return container_families(Snapshot(time=1234.5, containers=views), STAGES, most)[0]


def read(text: str, kind: str = PROMETHEUS) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Samples by name and labels, as the reference parser has them."""
    parse = parse_openmetrics if kind == OPENMETRICS else parse_prometheus
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in parse(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), "a series comes twice"
            found[sample.name][labels] = sample.value
    return found


@pytest.mark.parametrize("kind", [PROMETHEUS, OPENMETRICS])
def test_every_figure_of_a_container_is_there_under_its_name(kind: str) -> None:
    found = read(render_metrics(families(VIEW), kind), kind)
    label = (("image", "localhost/p/runtime:latest"), ("name", "app"))
    values = {name: series[label] for name, series in found.items() if label in series}
    assert values == {
        "container_cpu_usage_seconds_total": 12.5,
        "container_cpu_cfs_periods_total": 100,
        "container_cpu_cfs_throttled_periods_total": 25,
        "container_cpu_cfs_throttled_seconds_total": 0.75,
        "container_oom_events_total": 3,
        "container_network_receive_bytes_total": 3,
        "container_network_transmit_bytes_total": 4,
        "container_fs_reads_bytes_total": 1,
        "container_fs_writes_bytes_total": 2,
        "container_pressure_cpu_waiting_seconds_total": 3.5,
        "container_pressure_cpu_stalled_seconds_total": 1.25,
        "container_pressure_memory_waiting_seconds_total": 3.5,
        "container_pressure_memory_stalled_seconds_total": 1.25,
        "container_pressure_io_waiting_seconds_total": 3.5,
        "container_pressure_io_stalled_seconds_total": 1.25,
        "container_memory_usage_bytes": 3_000_000,
        "container_memory_working_set_bytes": 2_000_000,
        "container_spec_memory_limit_bytes": 8_000_000,
        "container_spec_cpu_quota": 50_000,
        "container_spec_cpu_period": 100_000,
        "container_threads": 4,
        "container_threads_max": 20,
        "container_last_seen": 1234.5,
        "xoe_container_running": 1,
    }
    (info,) = found["xoe_container_info"]
    about = {"current": "true", "digest": APP.digest, "project": "p", "stage": "runtime"}
    assert dict(info) == {"name": "app", "image": APP.image_name, **about}
    assert found["xoe_container_restarts_total"] == {(("name", "app"),): 2}
    states = {dict(labels)["state"]: value for labels, value in found["xoe_container_health"].items()}
    assert states == {"starting": 0, "healthy": 1, "unhealthy": 0}


def test_what_is_unknown_has_no_sample() -> None:
    bare = ContainerView(container=replace(APP, health="", digest="", project=""), usage=CgroupUsage())
    found = read(render_metrics(families(bare)))
    assert {name for name in found if name.startswith("container_")} == {"container_last_seen"}
    assert "xoe_container_health" not in found
    assert dict(next(iter(found["xoe_container_info"]))).keys() == {"name", "image", "stage"}


def test_ended_containers_drop_out_and_no_label_holds_an_id() -> None:
    gone = ContainerView(container=replace(APP, name="gone"))
    text = render_metrics(families(VIEW, gone))
    assert "gone" not in text
    assert APP.id not in text
    assert str(APP.pid) not in text
    assert read(text)["xoe_monitor_containers"] == {(): 1}


def test_of_a_thousand_containers_the_project_comes_first_and_the_rest_is_counted() -> None:
    others = [replace(VIEW, container=replace(APP, name=f"other{n:04}", project="")) for n in range(999)]
    found = read(render_metrics(families(*others, VIEW, most=100)))
    named = [dict(labels)["name"] for labels in found["container_threads"]]
    assert sorted(named) == ["app", *(f"other{n:04}" for n in range(99))]
    assert found["xoe_monitor_containers"] == {(): 1000}
    assert found["xoe_monitor_containers_left_out"] == {(): 900}
    assert all(len(series) <= 300 for series in found.values())


def test_a_name_that_comes_twice_spoils_nothing() -> None:
    long = "x" * 300
    twins = [
        replace(VIEW, container=replace(APP, name=name, pid=n)) for n, name in enumerate(("a", "a", long, long + "y"))
    ]
    found = read(render_metrics(families(*twins)))
    assert len(found["container_threads"]) == 2
    assert found["xoe_monitor_containers_left_out"] == {(): 2}


@pytest.mark.parametrize("kind", [PROMETHEUS, OPENMETRICS])
def test_any_text_is_a_label_and_makes_no_line_of_its_own(kind: str) -> None:
    for name in (
        'a\nb 1\n# EOF\nc{x="y"} 2',
        'quote " and \\ and \\n',
        "\r\x00\x1b[2J\u2028",
        "\udc80",
        "é✓",
        "x" * 999,
    ):
        evil = replace(VIEW, container=replace(APP, name=name, image_name=name))
        found = read(render_metrics(families(evil), kind), kind)
        (labels,) = found["container_threads"]
        shown = dict(labels)["name"]
        assert shown == dict(labels)["image"]
        expected = re.sub("[\x00-\x09\x0b-\x1f\udc80]", "\N{REPLACEMENT CHARACTER}", name)
        assert shown == (expected if len(name) <= 256 else "x" * 255 + "…")
        assert set(found) == set(read(render_metrics(families(VIEW), kind), kind))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", PROMETHEUS),
        (PROMETHEUS_ASKS, OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.1", PROMETHEUS),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=9.0.0", PROMETHEUS),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PROMETHEUS),
        ("application/openmetrics-text;q=nonsense", PROMETHEUS),
        ("application/openmetrics-text;q=0,*/*;q=0", PROMETHEUS),
        (";;,,=;q=" * 10_000, PROMETHEUS),
    ],
)
def test_openmetrics_goes_to_those_who_prefer_it(accept: str, expected: str) -> None:
    assert choose_format(accept) == expected


def test_numbers_are_written_as_readers_want_them() -> None:
    odd = gauge("x", "X.", *(((("n", str(n)),), n) for n in (float("nan"), float("inf"), float("-inf"), 1e300, 2**63)))
    text = render_metrics((odd, counter("none_total", "No samples.")))
    assert re.findall(r" (\S+)$", text, re.MULTILINE)[2:] == ["NaN", "+Inf", "-Inf", "1e+300", str(2**63)]
    assert "none_total" not in text
    assert len(read(text)["x"]) == 5


def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert "CI" not in os.environ, "metrics need promtool: apt-get install prometheus"
        pytest.skip("promtool is not installed: apt-get install prometheus")
    argv = (promtool, "check", "metrics")
    done = subprocess.run(argv, input=render_metrics(families(VIEW)), capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if not re.match("container_(spec|threads|last_seen)", line)]
    assert said == [], "cAdvisor's own names apart, which it would have otherwise"


def test_opentelemetry_has_its_names_and_directions_are_attributes() -> None:
    found = {one.name: one for one in otel_metrics(families(VIEW))}
    label = (("container.name", "app"), ("container.image.name", APP.image_name))
    assert found["container.cpu.time"].points == ((label, 12.5),)
    assert (found["container.cpu.time"].kind, found["container.cpu.time"].unit) == ("counter", "s")
    assert found["container.network.io"].points == (
        ((*label, ("network.io.direction", "receive")), 3),
        ((*label, ("network.io.direction", "transmit")), 4),
    )
    assert (found["container.memory.usage"].kind, found["container.memory.usage"].unit) == ("sum", "By")
    assert found["container_oom_events"].kind == "counter"
    assert not any(name.endswith("_total") for name in found)
