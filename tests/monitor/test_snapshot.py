"""The table and the JSON of containers, and GPUs divided over them."""

from __future__ import annotations

import json
from dataclasses import replace

from buildkit.gpu.use import ContainerGpu, GpuProcessUse, GpuUse, divide
from buildkit.monitor.containers import WatchedContainer
from buildkit.monitor.rates import UsageRates
from buildkit.monitor.snapshot import ContainerView, GpuShare, Snapshot, snapshot_as_json
from buildkit.monitor.usage import CgroupLimits, CgroupUsage, PressureStall
from buildkit.report.columns import render_columns
from buildkit.report.top_table import TOP_COLUMNS, top_lines, top_rows

APP = WatchedContainer(id="ab" * 32, name="app", pid=7, image="cd" * 32, image_name="localhost/p/app:latest")
USAGE = CgroupUsage(cpu_seconds=1.0, memory=3_000_000, idle_cache=1_000_000, pids=4)
VIEW = ContainerView(
    container=APP,
    usage=replace(USAGE, memory_pressure=PressureStall(some=0.12, full=0.0, total=3.0)),
    limits=CgroupLimits(cpus=0.5, memory=8_000_000, pids=20),
    rates=UsageRates(cpu=0.25, throttled=0.5, read=1000.0, written=0.0, received=2.0, sent=3.0),
    oom_kills=1,
    gpus=(GpuShare(index=1, uuid="GPU-x", memory=5_000_000_000, utilisation=0.4),),
    expected=False,
)


def snapshot(*views: ContainerView) -> Snapshot:
    return Snapshot(time=1.5, containers=views)


def keys(value: object, at: str = "") -> set[str]:
    if isinstance(value, dict):
        return {at} | {key for name, item in value.items() for key in keys(item, f"{at}.{name}")}
    return {at}


def test_a_row_says_what_is_used_of_what_there_is() -> None:
    (row,) = top_rows(snapshot(VIEW))
    assert dict(zip([column.title for column in TOP_COLUMNS], row, strict=True)) == {
        "container": "app",
        "cpu": "0.25 of 0.5",
        "throttled": "50 %",
        "memory": "2.0 MB of 8.0 MB",
        "oom": "1",
        "stalled": "-/12/- %",
        "pids": "4 of 20",
        "read": "1.0 kB/s",
        "written": "0 B/s",
        "received": "2 B/s",
        "sent": "3 B/s",
        "gpu": "1: 5.0 GB 40 %",
        "health": "",
        "restarts": "0",
        "image": "cdcdcdcdcdcd differs",
    }


def test_json_has_the_same_keys_whatever_is_known() -> None:
    full = json.loads(json.dumps(snapshot_as_json(snapshot(VIEW))))["containers"][0]
    gone = json.loads(json.dumps(snapshot_as_json(snapshot(ContainerView(container=APP)))))["containers"][0]
    stable = {key for key in keys(full) if not key.startswith(".memory.pressure.")}
    assert keys(gone) == stable
    assert (full["state"], gone["state"]) == ("running", "gone")
    assert set(full) == {
        "id", "name", "state", "health", "restarts", "image", "cpu", "memory", "io", "network", "pids", "gpus"
    }  # fmt: skip
    assert full["memory"] == {
        "used": 3_000_000,
        "working_set": 2_000_000,
        "limit": 8_000_000,
        "oom_kills": 1,
        "pressure": {"some": 0.12, "full": 0.0, "total": 3.0, "full_total": 0.0},
    }


def test_names_cannot_write_on_the_terminal_and_stay_whole_in_json() -> None:
    name = "app\nok 1 \x1b[2J\u202eevil"
    evil = replace(VIEW, container=replace(APP, name=name, health="sick\n\x1b]0;title\x07"))
    lines = [text for text, _ in top_lines(snapshot(evil), 300, 24)]
    assert len(lines) == 2
    assert not set("\x1b\x07\n\u202e") & set("".join(lines))
    assert "\\u202eevil" in lines[1]
    assert snapshot_as_json(snapshot(evil))["containers"][0]["name"] == name


def test_a_thousand_containers_fill_the_screen_busiest_first() -> None:
    views = [replace(VIEW, container=replace(APP, name=f"c{n}"), rates=UsageRates(cpu=n / 10)) for n in range(1000)]
    lines = top_lines(snapshot(*views), 80, 24)
    assert len(lines) == 24
    assert max(len(text) for text, _ in lines) <= 80
    assert [text.split()[0] for text, _ in lines[1:3]] == ["c999", "c998"]
    assert lines[-1] == ("… 978 containers more", "dim")
    assert len(render_columns(TOP_COLUMNS, top_rows(snapshot(*views)), None)) == 1001


def test_colours_warn() -> None:
    calm = replace(VIEW, oom_kills=0, rates=UsageRates(), expected=True)
    sick = replace(calm, container=replace(APP, health="unhealthy"))
    full = replace(calm, limits=CgroupLimits(memory=2_100_000))
    gone = ContainerView(container=APP)
    for view, style in ((calm, ""), (sick, "red"), (VIEW, "red"), (full, "yellow"), (gone, "dim")):
        assert top_lines(snapshot(view), 200, 24)[1][1] == style


def test_gpus_that_fail_are_named_below() -> None:
    broken = Snapshot(time=0.0, containers=(VIEW,), gpu_problems=("GPU 0: GPU is lost",))
    assert top_lines(broken, 200, 24)[-1] == ("GPU 0: GPU is lost", "red")
    assert top_lines(replace(broken, containers=()), 80, 24)[-1] == ("GPU 0: GPU is lost", "red")
    assert snapshot_as_json(broken)["gpu_problems"] == ["GPU 0: GPU is lost"]


def test_podman_that_fails_is_named_below_and_what_it_said_stays() -> None:
    failed = replace(snapshot(VIEW), podman_problem="the storage is locked")
    lines = top_lines(failed, 200, 24)
    assert lines[-1] == ("podman: the storage is locked", "red")
    assert lines[1][0].startswith("app")
    assert snapshot_as_json(failed)["podman_problem"] == "the storage is locked"


def test_processes_are_added_up_by_container() -> None:
    processes = (
        GpuProcessUse(pid=1, memory=10, utilisation=0.75),
        GpuProcessUse(pid=2, memory=5, utilisation=0.5),
        GpuProcessUse(pid=3, memory=None),
        GpuProcessUse(pid=4, memory=99),
    )
    uses = (GpuUse(index=0, uuid="a", processes=processes), GpuUse(index=1, uuid="b", processes=processes[1:2]))
    found = divide(uses, {1: "x", 2: "x", 3: "y", 4: ""}.__getitem__)
    assert found == {
        "x": (
            ContainerGpu(index=0, uuid="a", memory=15, utilisation=1.0),
            ContainerGpu(index=1, uuid="b", memory=5, utilisation=0.5),
        ),
        "y": (ContainerGpu(index=0, uuid="a"),),
    }
