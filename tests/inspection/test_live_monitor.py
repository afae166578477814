"""The reading half of the monitor while containers, GPUs, clocks and podman do what they want."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildkit.cli.monitor import _serve as serve
from buildkit.errors import ToolError
from buildkit.gpu.use import GpuHealth, GpuProcessUse, GpuUse
from buildkit.inspection import container_watch, watch_scope
from buildkit.inspection.container_watch import ContainerWatch
from buildkit.inspection.findings_file import FindingsFile
from buildkit.inspection.live_monitor import LiveMonitor, remember_uses
from buildkit.inspection.service_watch import ServiceWatch
from buildkit.inspection.watch_scope import WatchScope
from buildkit.monitor.metrics import MetricFamily, render_metrics
from buildkit.monitor.state import MonitorState, render_state
from tests.inspection.test_container_watch import Host
from tests.monitor.test_metrics import read
from tests.waiting import wait_until

Found = dict[str, dict[tuple[tuple[str, str], ...], float]]
GPU = GpuUse(
    index=0, uuid="GPU-a", memory=5, total=9, utilisation=0.5, processes=(GpuProcessUse(pid=11, memory=4),),
    health=GpuHealth(name="H200", temperature=41, power=120.5, corrected=2, uncorrected=0, xid=0),
)  # fmt: skip


class WatchedHost:
    """A made-up host, and a monitor of it that is asked each two seconds."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.host = Host(folder, "v2")
        self.fails: str = ""
        measure, uses = remember_uses(lambda: self.host.gpus)
        sources = replace(self.host.watch.sources, measure_gpus=measure, find_running=self._find)
        clock: Callable[[], float] = lambda: self.host.now  # noqa: E731
        self.monitor = LiveMonitor(watch=ContainerWatch(sources=sources), uses=uses, clock=clock, **settings)

    def _find(self) -> tuple[object, ...]:
        if self.fails:
            raise ToolError(self.fails)
        return self.host._find()

    def state(self, seconds: float = 2.0) -> MonitorState:
        self.host.now += seconds
        return self.monitor.state()

    def metrics(self, seconds: float = 2.0) -> Found:
        return read(render_metrics(self.state(seconds).families))


@pytest.fixture
def watched(tmp_path: Path) -> WatchedHost:
    return WatchedHost(tmp_path)


def shown(found: Found) -> set[str]:
    return {dict(labels)["name"] for labels in found.get("container_threads", {})}


def test_a_group_that_vanishes_takes_its_container_and_no_other(watched: WatchedHost) -> None:
    first = watched.host.add(11)
    watched.host.add(12)
    before = watched.metrics()
    watched.host.end(first, listed=True)
    after = watched.metrics()
    assert (shown(before), shown(after)) == ({"c0011", "c0012"}, {"c0012"})
    assert after["container_cpu_usage_seconds_total"].items() <= before["container_cpu_usage_seconds_total"].items()


def test_a_container_that_is_renamed_has_one_name_at_any_time(watched: WatchedHost) -> None:
    one = watched.host.add(11)
    assert shown(watched.metrics()) == {"c0011"}
    watched.host.containers[one.id] = replace(one, name="new\nname")
    found = watched.metrics(container_watch.PATIENCE)
    assert shown(found) == {"new\nname"}
    assert next(iter(found["container_oom_events_total"].values())) == 0


@pytest.mark.parametrize("jump", [-5000.0, 0.0, 86_400.0])
def test_a_clock_that_jumps_changes_no_counter(watched: WatchedHost, jump: float) -> None:
    watched.host.add(11)
    before = watched.metrics()
    after = watched.metrics(jump)
    assert after["container_cpu_usage_seconds_total"] == before["container_cpu_usage_seconds_total"]
    assert shown(watched.metrics()) == {"c0011"}


def test_figures_are_made_once_for_all_who_ask_in_half_a_second(watched: WatchedHost) -> None:
    watched.host.add(11)
    first = watched.state()
    assert watched.state(0.4) is first
    assert watched.state(0.2) is not first


def test_podman_that_fails_later_costs_names_of_new_containers_alone(watched: WatchedHost) -> None:
    watched.host.add(11)
    watched.state()
    watched.fails = "the storage is locked"
    watched.host.add(12)
    state = watched.state()
    assert state.problem == "podman does not answer: the storage is locked"
    found = read(render_metrics(state.families))
    assert shown(found) == {"c0011"}
    assert found["xoe_monitor_errors_total"][(("source", "podman"),)] == 1
    watched.state(5.0)
    assert watched.monitor.watch.failures == 1, "it is asked again after ten seconds"
    watched.fails = ""
    found = watched.metrics(10.0)
    assert shown(found) == {"c0011", "c0012"}
    assert found["xoe_monitor_errors_total"][(("source", "podman"),)] == 1
    assert watched.state().problem == ""


def test_podman_that_fails_at_once_is_an_error(watched: WatchedHost) -> None:
    watched.fails = "podman is broken"
    with pytest.raises(ToolError, match="broken"):
        watched.state()


def test_podman_that_hangs_costs_a_moment_and_names_of_new_containers_alone(
    watched: WatchedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    goes_on.set()

    def find() -> tuple[object, ...]:
        assert goes_on.wait(60)
        return watched._find()

    monkeypatch.setattr(watch_scope, "find_running", find)
    finder = WatchScope(project="p", stages={}).finder(every=True)
    watched.monitor.watch.sources = replace(watched.monitor.watch.sources, find_running=finder)
    watched.host.add(11)
    assert watched.metrics()["xoe_monitor_podman_up"] == {(): 1}
    goes_on.clear()
    watched.host.add(12)
    for failures in (1, 1, 2):  # it is asked again after ten seconds, and one question is enough
        state = watched.state(5.0)
        found = read(render_metrics(state.families))
        assert shown(found) == {"c0011"}
        assert found["xoe_monitor_podman_up"] == {(): 0}
        assert found["xoe_monitor_errors_total"][(("source", "podman"),)] == failures
        assert state.problem == "podman does not answer: no answer within 1 s, and none so far"
    assert watched.host.asked == 1
    goes_on.set()
    wait_until(lambda: watched.host.asked == 2)
    wait_until(lambda: shown(watched.metrics(10.0)) == {"c0011", "c0012"})
    assert watched.state().problem == ""


def test_a_gpu_that_fails_between_two_looks_takes_its_figures_and_no_others(watched: WatchedHost) -> None:
    watched.host.add(11)
    lost = replace(GPU, index=1, uuid="GPU-b")
    watched.host.gpus = (GPU, lost)
    before = watched.metrics()
    watched.host.gpus = (GPU, GpuUse(index=1, uuid="GPU-b", problem="GPU is lost"))
    after = watched.metrics()
    for name, series in before.items():
        if name.startswith("xoe_gpu_") and name != "xoe_gpu_up":
            kept = {labels: value for labels, value in series.items() if dict(labels)["uuid"] == "GPU-a"}
            assert after[name] == kept, name
    assert {dict(labels)["uuid"]: value for labels, value in after["xoe_gpu_up"].items()} == {"GPU-a": 1, "GPU-b": 0}
    assert after["xoe_monitor_errors_total"][(("source", "nvml"),)] == 1
    watched.host.gpus = (GPU, lost)
    again = watched.metrics()
    assert {name: again[name] for name in again if name.startswith("xoe_gpu_")} == {
        name: before[name] for name in before if name.startswith("xoe_gpu_")
    }


def test_figures_of_gpus_have_their_names_and_containers(watched: WatchedHost) -> None:
    watched.host.add(11)
    watched.host.gpus = (GPU,)
    found = watched.metrics()
    label = tuple(sorted({"uuid": "GPU-a", "index": "0", "gpu_name": "H200"}.items()))
    values = {name: series[label] for name, series in found.items() if label in series}
    assert values == {
        "xoe_gpu_up": 1,
        "xoe_gpu_utilisation_ratio": 0.5,
        "xoe_gpu_memory_used_bytes": 5,
        "xoe_gpu_memory_total_bytes": 9,
        "xoe_gpu_temperature_celsius": 41,
        "xoe_gpu_power_watts": 120.5,
        "xoe_gpu_xid": 0,
    }
    kinds = {dict(labels)["kind"]: value for labels, value in found["xoe_gpu_ecc_errors_total"].items()}
    assert kinds == {"corrected": 2, "uncorrected": 0}
    assert found["xoe_gpu_container_memory_bytes"] == {(("name", "c0011"), ("uuid", "GPU-a")): 4}


def test_containers_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    watched = WatchedHost(tmp_path, most=20)
    sizes = []
    for wave in range(1, 6):
        for number in range(1, 41):
            made = watched.host.add(number)
            ident = f"{wave:032x}{number:032x}"
            watched.host.containers[ident] = replace(made, id=ident, name=f"w{wave}c{number}")
            del watched.host.containers[made.id]
            watched.host.kernel.add(number, Host.group(ident))
        found = watched.metrics(container_watch.PATIENCE)
        assert len(shown(found)) == 20
        assert found["xoe_monitor_containers_left_out"] == {(): 20}
        sizes.append(len(render_state(watched.state())))
        watched.host.containers.clear()
        shutil.rmtree(watched.host.kernel.root / "libpod_parent")
        assert shown(watched.metrics()) == set()
    assert max(sizes) - min(sizes) < 2000
    assert not watched.monitor.watch._watched


def test_an_extra_that_fails_keeps_what_it_said_and_is_counted(watched: WatchedHost, tmp_path: Path) -> None:
    file = tmp_path / "findings.json"
    one = {"rule": "drift", "severity": "high", "container": "app\n"}
    text = {"format": 1, "time": 7.5, "complete": True, "findings": [one, one, one | {"rule": "root"}]}
    published: list[object] = []
    watched.monitor.extras = {"findings": FindingsFile(file, published.append).ask}
    watched.monitor.ask_extras()
    assert "xoe_findings" not in watched.metrics()
    file.write_text(json.dumps(text))
    watched.monitor.ask_extras()
    good = watched.metrics()
    assert set(good["xoe_findings"].values()) == {1, 2}
    assert (good["xoe_findings_complete"][()], good["xoe_findings_timestamp_seconds"][()]) == (1, 7.5)
    wrong = (json.dumps(text | {"time": time}) for time in (None, 10**400))
    for broken in ("{", "[]", "[" * 100_000, '{"findings": [{}], "complete": true, "time": 0}', *wrong):
        file.write_text(broken)
        watched.monitor.ask_extras()
        assert watched.metrics()["xoe_findings"] == good["xoe_findings"]
    file.unlink()
    watched.monitor.ask_extras()
    found = watched.metrics()
    assert found["xoe_findings"] == good["xoe_findings"]
    assert found["xoe_monitor_errors_total"][(("source", "findings"),)] == 8
    assert published == [text]
    file.write_text(json.dumps(text | {"findings": [], "complete": False}))
    watched.monitor.ask_extras()
    found = watched.metrics()
    assert ("xoe_findings" in found, found["xoe_findings_complete"][()]) == (False, 0)


def test_threads_that_ask_at_once_get_one_look(watched: WatchedHost) -> None:
    watched.host.add(11)
    seen: list[MonitorState] = []
    threads = [threading.Thread(target=lambda: seen.append(watched.monitor.state())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(state) for state in seen}) == 1


def test_kinds_of_findings_have_an_upper_limit(tmp_path: Path) -> None:
    file = tmp_path / "findings.json"
    many = [{"rule": f"r{n}", "severity": "low", "container": "c"} for n in range(2500)]
    file.write_text(json.dumps({"format": 1, "time": 0, "complete": True, "findings": many}))
    found: dict[str, MetricFamily] = {family.name: family for family in FindingsFile(file).ask()}
    assert len(found["xoe_findings"].samples) == 2000
    assert found["xoe_findings_left_out"].samples == (((), 500),)


def test_thread_that_ends_unexpectedly_is_the_states_problem(
    watched: WatchedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: printed.append(args.exc_type.__name__))
    services = ServiceWatch(services={"app": "http://x"}, publish=lambda _value: None, fetch=lambda _url: {}["x"])
    assert watched.state().problem == ""
    with watched.monitor.noticing(), services.running():
        wait_until(lambda: bool(printed))
    assert watched.state().problem == "services ended by KeyError: start the monitor again"
    assert printed == ["KeyError"]


def test_podman_that_fails_at_the_first_look_ends_the_session_and_no_thread_of_it() -> None:
    looked: list[str] = []

    def look() -> None:
        looked.append(threading.current_thread().name)
        raise ToolError("listing containers failed")

    broken = LiveMonitor(watch=SimpleNamespace(look=look))  # type: ignore[arg-type]
    with pytest.raises(ToolError):
        serve(broken, ("127.0.0.1", 0))
    assert looked == ["MainThread"]
