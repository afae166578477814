"""CPU seconds and bytes read and written by this thread and the programs that it waited for.

From proc(5): ``/proc/PID/stat`` and ``/proc/PID/io`` (all reads and writes of files and pipes, cached or not). Bytes
that the kernel does not report count as 0.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from buildkit.lazy_dataclass import dataclass

_TICKS = os.sysconf("SC_CLK_TCK")
_local = threading.local()


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """CPU seconds, bytes read, bytes written."""

    cpu: float = 0.0
    read: int = 0
    written: int = 0

    def __add__(self, other: ResourceUsage) -> ResourceUsage:
        return ResourceUsage(self.cpu + other.cpu, self.read + other.read, self.written + other.written)

    def __sub__(self, other: ResourceUsage) -> ResourceUsage:
        return ResourceUsage(self.cpu - other.cpu, self.read - other.read, self.written - other.written)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCost:
    """Wall-clock seconds of work (concurrent threads are added up) and its resource usage."""

    seconds: float = 0.0
    usage: ResourceUsage = ResourceUsage()

    def __add__(self, other: WorkCost) -> WorkCost:
        return WorkCost(seconds=self.seconds + other.seconds, usage=self.usage + other.usage)

    def as_json(self) -> dict[str, float]:
        """Return ``{"seconds", "cpu", "read", "written"}``: two times in seconds and two sizes in bytes."""
        cpu = round(self.usage.cpu, 3)
        return {"seconds": round(self.seconds, 3), "cpu": cpu, "read": self.usage.read, "written": self.usage.written}


def measure_thread() -> ResourceUsage:
    """Return the usage of this thread so far, with the programs that it started and waited for."""
    return ResourceUsage(time.thread_time(), *_read_io(Path("/proc/thread-self/io"))) + _of_children()


def measure_process() -> ResourceUsage:
    """Return the usage of this process so far, by all of its threads."""
    return ResourceUsage(time.process_time(), *_read_io(Path("/proc/self/io")))


def record_child(pid: int) -> None:
    """Add an ended program that is not reaped yet, and its own children, to this thread's usage."""
    record_usage(ResourceUsage(read_cpu(pid), *_read_io(Path(f"/proc/{pid}/io"))))


def record_usage(usage: ResourceUsage) -> None:
    """Add what another process has used for this thread."""
    _local.children = _of_children() + usage


def _of_children() -> ResourceUsage:
    found: ResourceUsage = getattr(_local, "children", ResourceUsage())
    return found


def read_cpu(pid: int) -> float:
    """Return the CPU seconds of a process and of the children it waited for; 0 if it is gone.

    They are utime, stime, cutime and cstime of proc(5), fields 14 to 17; the name before them may contain anything.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def _read_io(path: Path) -> tuple[int, int]:
    try:
        lines = dict(line.split(": ") for line in path.read_text("ascii").splitlines())
    except OSError:
        return 0, 0
    return int(lines["rchar"]), int(lines["wchar"])
