"""How many CPUs this process may use: the smaller of its affinity mask and its cgroup's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def count_cpus(cgroup: Path = CGROUP) -> int:
    """Return the number of CPUs that this process may keep busy, at least 1.

    `os.cpu_count` sees the host. A container is limited by affinity (`--cpuset-cpus`) or by a quota (`--cpus`);
    a quota of 1.5 counts as 2, for a second thread can use the half.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = find_quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def find_quota(cgroup: Path) -> float | None:
    """Return the CPU quota of the cgroup mounted at `cgroup` in CPUs, or None where there is no limit."""
    match read_words(cgroup / "cpu.max"):  # version 2: "QUOTA PERIOD", or "max PERIOD"
        case [quota, period]:
            return parse_quota(quota, period)
    quota_us = read_words(cgroup / "cpu" / "cpu.cfs_quota_us")  # version 1: -1 is no limit
    period_us = read_words(cgroup / "cpu" / "cpu.cfs_period_us")
    return parse_quota(quota_us[0], period_us[0]) if quota_us and period_us else None


def parse_quota(quota: str, period: str) -> float | None:
    """Return quota over period, or None where the quota is `max`, negative or not a number."""
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0 or int(quota) == 0:
        return None
    return int(quota) / int(period)


def read_words(path: Path) -> list[str]:
    """Return the words of a small file; none where it cannot be read."""
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
