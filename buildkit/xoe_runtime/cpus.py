"""How many CPUs this process may use: the smaller of its affinity mask and its cgroup's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def count_cpus(cgroup: Path = CGROUP) -> int:
    """Return the number of CPUs that this process may keep busy, at least 1.

    ``os.cpu_count`` is the host's. A quota of 1.5 CPUs counts as 2, for a second thread can use the half.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = find_quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def find_quota(cgroup: Path) -> float | None:
    """Return the quota in CPUs of the cgroup (version 2 or 1) that is mounted here; None for no limit."""
    words = _words(cgroup / "cpu.max") or [
        word for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us") for word in _words(cgroup / "cpu" / name)
    ]
    if len(words) != 2 or not all(word.isdigit() and int(word) for word in words):
        return None  # `max` and -1 are no limit
    return int(words[0]) / int(words[1])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):  # not this version of cgroups, or not mounted
        return []
