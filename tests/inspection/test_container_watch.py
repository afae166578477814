"""Looks at containers that come, go, begin anew and are renamed; podman is asked only then."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.gpu.use import GpuProcessUse, GpuUse
from buildkit.inspection.container_watch import PATIENCE, ContainerWatch, WatchSources
from buildkit.monitor.containers import WatchedContainer
from tests.monitor.cgrouphosts import CgroupHost


class Host:
    """A made-up host; `add` starts a container, `end` ends it, `asked` counts questions to podman."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kernel = CgroupHost(folder, kind)
        self.containers: dict[str, WatchedContainer] = {}
        self.asked, self.now, self.gpus = 0, 1000.0, ()
        self.watch = ContainerWatch(
            sources=WatchSources(
                find_running=self._find,
                reader=self.kernel.reader,
                measure_gpus=lambda: self.gpus,
                clock=lambda: self.now,
                wall=lambda: 5.0,
                expected=self._expected,
            )
        )

    def add(self, number: int) -> WatchedContainer:
        ident = f"{number:064x}"
        self.kernel.add(number, self.group(ident))
        image = {"image": "ab" * 32, "image_name": "localhost/p/app:latest"}
        made = WatchedContainer(id=ident, name=f"c{number:04}", pid=number, **image)
        self.containers[ident] = made
        return made

    @staticmethod
    def group(ident: str) -> str:
        return f"/libpod_parent/libpod-{ident}"

    def end(self, one: WatchedContainer, *, listed: bool = False) -> None:
        if not listed:
            del self.containers[one.id]
        shutil.rmtree(self.kernel.folder / f"proc/{one.pid}")
        for folder in self.kernel.root.rglob(f"libpod-{one.id}"):
            shutil.rmtree(folder)

    def look(self, seconds: float = 2.0) -> dict[str, str]:
        self.now += seconds
        return {view.container.name: view.state for view in self.watch.look().containers}

    def _find(self) -> tuple[WatchedContainer, ...]:
        self.asked += 1
        return tuple(self.containers.values())

    def _expected(self, names: tuple[str, ...]) -> Mapping[str, str]:
        return dict.fromkeys(names, "ab" * 32)


@pytest.fixture(params=["v1", "v2", "hybrid"])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Host:
    return Host(tmp_path, request.param)


def test_podman_is_asked_once_and_when_a_container_comes_or_goes(host: Host) -> None:
    first, second = host.add(11), host.add(12)
    for _ in range(5):
        assert host.look() == {"c0011": "running", "c0012": "running"}
    assert host.asked == 1
    host.end(first)
    host.add(13)
    assert host.look() == {"c0012": "running", "c0013": "running"}
    assert host.asked == 2
    host.end(second, listed=True)  # podman still lists it: it is gone all the same, and no traceback
    assert host.look() == {"c0012": "gone", "c0013": "running"}


def test_containers_that_come_faster_than_that_wait_two_seconds(host: Host) -> None:
    host.add(11)
    host.look()
    host.add(12)
    assert host.look(0.5) == {"c0011": "running"}
    assert host.look(2.0) == {"c0011": "running", "c0012": "running"}
    assert host.asked == 2


def test_containers_of_others_are_asked_about_twice_and_their_end_never(host: Host) -> None:
    host.add(11)
    host.look()
    other = host.add(12)
    del host.containers[other.id]  # of another user, or only just begun
    for asked in (2, 3, 3, 3):
        assert host.look() == {"c0011": "running"}
        assert host.asked == asked
    host.containers[other.id] = other
    host.end(other)
    assert host.look() == {"c0011": "running"}
    assert host.asked == 3


def test_a_container_that_podman_lists_late_is_seen(host: Host) -> None:
    host.add(11)
    host.look()
    late = host.add(12)
    del host.containers[late.id]
    assert host.look() == {"c0011": "running"}
    host.containers[late.id] = late
    assert host.look() == {"c0011": "running", "c0012": "running"}


def test_a_container_that_begins_anew_is_looked_up_again(host: Host) -> None:
    one = host.add(11)
    host.look()
    host.end(one)
    again = replace(host.add(11), pid=21, restarts=1)
    host.kernel.add(21, host.group(again.id))
    shutil.rmtree(host.kernel.folder / "proc/11")
    host.containers[again.id] = again
    host.look(0.5)
    host.now += 2.0
    (view,) = host.watch.look().containers
    assert (view.container.restarts, view.usage and view.usage.received) == (1, 1500)


def test_a_new_name_is_seen_in_a_minute_and_figures_go_on(host: Host) -> None:
    one = host.add(11)
    host.look()
    host.containers[one.id] = replace(one, name="renamed")
    assert host.look() == {"c0011": "running"}
    assert host.look(PATIENCE) == {"renamed": "running"}
    (view,) = host.watch.look().containers
    assert view.oom_kills == 0


def test_a_clock_that_jumps_back_hurts_nothing(host: Host) -> None:
    host.add(11)
    host.look()
    assert host.look(-5000.0) == {"c0011": "running"}
    (view,) = host.watch.look().containers
    assert view.rates.cpu is None
    assert host.look() == {"c0011": "running"}


def test_rates_expected_images_and_gpus_are_there(host: Host) -> None:
    one = host.add(11)
    host.containers[one.id] = replace(one, image="cd" * 32)
    host.add(12)
    host.gpus = (
        GpuUse(index=0, uuid="GPU-a", processes=(GpuProcessUse(pid=12, memory=7), GpuProcessUse(pid=99, memory=1))),
        GpuUse(index=1, uuid="", problem="GPU is lost"),
    )
    host.look()
    host.now += 1.0
    snapshot = host.watch.look()
    first, second = snapshot.containers
    assert (first.expected, second.expected) == (False, True)
    assert (first.gpus, [gpu.memory for gpu in second.gpus]) == ((), [7])
    assert first.rates.cpu == 0.0
    assert snapshot.gpu_problems == ("GPU 1: GPU is lost",)


def test_a_thousand_containers_that_all_end_leave_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path, "v2")
    for number in range(1, 1001):
        host.add(number)
    assert len(host.look()) == 1000
    host.containers.clear()
    shutil.rmtree(host.kernel.root / "libpod_parent")
    assert host.look() == {}
    assert host.asked == 2
    assert not host.watch._watched
