"""Figures of control groups, on hosts of v1, v2 and hybrid."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from buildkit.monitor.hierarchy import find_container_id, find_files, parse_cgroup_mounts, parse_groups
from buildkit.monitor.usage import CgroupLimits, CgroupUsage, PressureStall, parse_limits, parse_pressure, parse_usage
from tests.monitor.cgrouphosts import CgroupHost

ID = "ab" * 32
GROUPS = {
    "root": f"/libpod_parent/libpod-{ID}",
    "root, systemd": f"/machine.slice/libpod-{ID}.scope/container",
    "quadlet": f"/system.slice/app.service/libpod-payload-{ID}",
    "user": f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
    "service manager": f"/machine.slice/libpod-{ID}.scope/init.scope",
    "pod": f"/machine.slice/machine-libpod_pod_{'cd' * 32}.slice/libpod-{ID}.scope/container",
}
STALL = PressureStall(some=0.125, full=0.02, total=2.5, full_total=0.1)


@pytest.mark.parametrize("kind", ["v1", "v2", "hybrid"])
@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_figures_are_the_same_on_every_host(tmp_path: Path, kind: str, group: str) -> None:
    host = CgroupHost(tmp_path, kind)
    host.add(42, group)
    files = host.reader.find_files(42, ID)
    stall = None if kind == "v1" else STALL
    usage = host.reader.read_usage(files, 42)
    assert usage == CgroupUsage(
        cpu_seconds=3.0,
        periods=100,
        throttled=25,
        throttled_seconds=0.5,
        memory=1_000_000,
        idle_cache=400_000,
        oom_kills=2,
        pids=7,
        read=15,
        written=20,
        received=1500,
        sent=320,
        cpu_pressure=stall,
        memory_pressure=stall,
        io_pressure=stall,
    )
    assert usage.working_set == 600_000
    assert host.reader.read_limits(files) == CgroupLimits(cpus=0.5, memory=2_000_000, pids=20)
    assert host.reader.find_container(42) == ID


@pytest.mark.parametrize("kind", ["v1", "v2", "hybrid"])
def test_a_container_without_groups_of_its_own_gets_no_figures_of_others(tmp_path: Path, kind: str) -> None:
    host = CgroupHost(tmp_path, kind)
    host.add(42, "/user.slice/user-1000.slice/session-1.scope")
    files = host.reader.find_files(42, ID)
    assert (files.used, files.limits, files.folders) == ((), (), ())
    assert host.reader.read_usage(files, 42, network=False) == CgroupUsage()
    shutil.rmtree(tmp_path / "proc/42")
    assert host.reader.read_usage(files, 42) is None
    assert host.reader.find_container(42) == ""


@pytest.mark.parametrize("kind", ["v1", "v2", "hybrid"])
def test_a_group_that_vanishes_is_gone_and_one_without_a_controller_is_not(tmp_path: Path, kind: str) -> None:
    host = CgroupHost(tmp_path, kind)
    host.add(42, GROUPS["root"])
    files = host.reader.find_files(42, ID)
    memory = next(path for path in files.used if path.endswith("memory.stat"))
    Path(memory).unlink()
    usage = host.reader.read_usage(files, 42)
    assert usage is not None
    assert (usage.idle_cache, usage.working_set) == (None, 1_000_000)
    shutil.rmtree(files.folders[-1])
    assert host.reader.read_usage(files, 42) is None
    assert host.reader.read_limits(files).cpus in (None, 0.5)


def test_the_monitor_of_a_container_is_no_process_of_it() -> None:
    assert find_container_id(f"0::/machine.slice/libpod-conmon-{ID}.scope\n") == ""
    assert find_container_id(f"0::/machine.slice/libpod-{ID}.scope/container\n") == ID
    assert find_container_id("") == ""


def test_a_part_of_a_hierarchy_is_found_below_its_own_root() -> None:
    mounts = parse_cgroup_mounts("9 8 0:9 /docker/x /sys/fs/cgroup\\040x ro - cgroup2 cgroup rw\n")
    inside = find_files(mounts, parse_groups(f"0::/docker/x/libpod-{ID}\n"), ID)
    assert inside.folders == (f"/sys/fs/cgroup x/libpod-{ID}",)
    assert find_files(mounts, parse_groups(f"0::/docker/y/libpod-{ID}\n"), ID).folders == ()
    assert find_files(mounts, parse_groups(f"0::/../libpod-{ID}\n"), ID).folders == ()


def test_no_limits_are_none() -> None:
    v1 = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n", "memory.limit_in_bytes": "9223372036854771712\n"}
    for texts in (
        v1 | {"pids.max": "max\n"},
        {"cpu.max": "max 100000\n", "memory.max": "max\n", "pids.max": "max\n"},
        {},
    ):
        assert parse_limits(texts) == CgroupLimits()


@pytest.mark.parametrize("text", ["", "nonsense\n", "some avg10=x total=1\n", "full avg10=1.0 total=1\n"])
def test_a_kernel_without_pressure_says_nothing(text: str) -> None:
    assert parse_pressure(text) is None
    assert parse_usage({"cpu.stat": text, "io.stat": "\n"}) == CgroupUsage(read=0, written=0)


def test_an_idle_container_used_no_time_which_is_known() -> None:
    assert parse_usage({"cpu.stat": "usage_usec 0\nthrottled_usec 0\n"}).cpu_seconds == 0.0
    assert parse_pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n") == PressureStall(some=0, full=0, total=0)
