"""What the container may use of the machine, and what the processor can do."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct")
_TOLD = (
    "avx", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "fma", "f16c",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


def count_threads(root: Path = Path("/")) -> int:
    """Return how many processors this process may use: those it may run on, bounded by the quota of its cgroup."""
    free = len(os.sched_getaffinity(0))
    quotas = [quota for quota in (_quota_of(root / place.lstrip("/")) for place in _CGROUPS) if quota]
    return max(1, min([free, *(int(quota) or 1 for quota in quotas)]))


def _quota_of(folder: Path) -> float:
    """Return the processors that a cgroup of version 2 (``cpu.max``) or 1 allows; 0 if it has no limit."""
    with suppress(OSError, ValueError):
        most, period = (folder / "cpu.max").read_text("ascii").split()
        return 0.0 if most == "max" else int(most) / int(period)
    with suppress(OSError, ValueError):
        quota = int((folder / "cpu.cfs_quota_us").read_text("ascii"))
        return max(0.0, quota / int((folder / "cpu.cfs_period_us").read_text("ascii")))
    return 0.0


def describe_processor(cpuinfo: str = "") -> str:
    """Return the machine and what its processor has of the features that change numbers: ``x86_64 avx avx2 fma``."""
    text = cpuinfo
    if not text:
        with suppress(OSError):
            text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    lines = (line.partition(":") for line in text.splitlines())
    flags = next((words.split() for name, _, words in lines if name.strip() in ("flags", "Features")), [])
    return " ".join((platform.machine(), *(name for name in _TOLD if name in flags)))
