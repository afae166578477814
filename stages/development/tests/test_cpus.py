from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpus import count_cpus, find_quota


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="ascii")
    return folder


@pytest.mark.parametrize(
    ("text", "quota"),
    [("150000 100000\n", 1.5), ("max 100000\n", None), ("\n", None), ("0 100000", None), ("1 0", None)],
)
def test_the_quota_of_cgroup_2(tmp_path: Path, text: str, quota: float | None) -> None:
    assert find_quota(write(tmp_path, cpu_dot_max=text)) == quota


@pytest.mark.parametrize(("text", "quota"), [("50000\n", 0.5), ("-1\n", None)])
def test_the_quota_of_cgroup_1(tmp_path: Path, text: str, quota: float | None) -> None:
    folder = write(tmp_path, cpu__cpu_dot_cfs_quota_us=text, cpu__cpu_dot_cfs_period_us="100000\n")
    assert find_quota(folder) == quota


def test_no_cgroup_is_no_limit(tmp_path: Path) -> None:
    assert find_quota(tmp_path / "none") is None
    assert count_cpus(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_the_smaller_limit_counts_and_half_a_cpu_is_one(tmp_path: Path) -> None:
    assert count_cpus(write(tmp_path, cpu_dot_max="10000 100000")) == 1
    assert count_cpus(write(tmp_path, cpu_dot_max="99900000 100000")) == len(os.sched_getaffinity(0))
