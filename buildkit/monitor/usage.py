"""What a container uses and may use: values, parsed from the files of its control groups by name. Pure.

Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/ and accounting/psi.rst of the kernel. None is what a
controller does not say, because a host lacks it or does not delegate it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_UNLIMITED = 1 << 60  # cgroups v1 write a number close to the maximum for "no limit"
_MICRO, _NANO = 1e6, 1e9
_STALLS = re.compile(
    r"some avg10=([0-9]+[.][0-9]+) .*total=([0-9]+)(?:\nfull avg10=([0-9]+[.][0-9]+) .*total=([0-9]+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureStall:
    """Time in which processes waited for a resource (PSI): shares of the last 10 s, and seconds so far.

    In ``some`` of it at least one process waited, in ``full`` all did; ``total`` is that of ``some``.
    """

    some: float
    full: float
    total: float
    full_total: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupUsage:
    """Counters since a container began, and its present memory (bytes) and processes.

    ``throttled`` are periods of the CPU limit in which it was used up, of ``periods``; ``throttled_seconds`` is the
    time that was waited for the next one. ``idle_cache`` is the part of memory that the kernel takes back first
    (``inactive_file``). ``received`` and ``sent`` are those of its own network, without loopback.
    """

    cpu_seconds: float | None = None
    periods: int | None = None
    throttled: int | None = None
    throttled_seconds: float | None = None
    memory: int | None = None
    idle_cache: int | None = None
    oom_kills: int | None = None
    pids: int | None = None
    read: int | None = None
    written: int | None = None
    received: int | None = None
    sent: int | None = None
    cpu_pressure: PressureStall | None = None
    memory_pressure: PressureStall | None = None
    io_pressure: PressureStall | None = None

    @property
    def working_set(self) -> int | None:
        """Memory that is not idle cache, as cAdvisor, Kubernetes and docker count."""
        return None if self.memory is None else max(0, self.memory - (self.idle_cache or 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLimits:
    """What a container may use; None: no limit of its own."""

    cpus: float | None = None
    memory: int | None = None
    pids: int | None = None


def parse_usage(texts: Mapping[str, str], network: str = "") -> CgroupUsage:
    """Parse files of control groups, by name, and ``/proc/PID/net/dev``. What is no number is unknown."""
    cpu, memory = parse_pairs(texts.get("cpu.stat", "")), texts.get("memory.stat", "")
    kills = parse_pairs(texts.get("memory.events", texts.get("memory.oom_control", "")))
    read, written = _parse_disks(texts)
    received, sent = parse_network(network)
    current = texts.get("memory.current", texts.get("memory.usage_in_bytes", ""))
    return CgroupUsage(
        cpu_seconds=_seconds(cpu.get("usage_usec"), _number(texts.get("cpuacct.usage", ""))),
        periods=cpu.get("nr_periods"),
        throttled=cpu.get("nr_throttled"),
        throttled_seconds=_seconds(cpu.get("throttled_usec"), cpu.get("throttled_time")),
        memory=_number(current),
        idle_cache=_find(memory, "total_inactive_file", "inactive_file"),
        oom_kills=kills.get("oom_kill"),
        pids=_number(texts.get("pids.current", "")),
        read=read,
        written=written,
        received=received,
        sent=sent,
        cpu_pressure=parse_pressure(texts.get("cpu.pressure", "")),
        memory_pressure=parse_pressure(texts.get("memory.pressure", "")),
        io_pressure=parse_pressure(texts.get("io.pressure", "")),
    )


def parse_limits(texts: Mapping[str, str]) -> CgroupLimits:
    """Parse the files of limits, by name."""
    quota, _, period = texts.get("cpu.max", "").strip().partition(" ")
    limit = _number(quota or texts.get("cpu.cfs_quota_us", ""))
    per = _number(period or texts.get("cpu.cfs_period_us", ""))
    return CgroupLimits(
        cpus=limit / per if limit and per else None,
        memory=_limit(texts.get("memory.max", texts.get("memory.limit_in_bytes", ""))),
        pids=_limit(texts.get("pids.max", "")),
    )


def parse_pairs(text: str) -> dict[str, int]:
    """Parse lines of a word and a number; others are left out."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}


def parse_pressure(text: str) -> PressureStall | None:
    """Parse a file of PSI; older kernels have no ``full`` for the CPU."""
    if (found := _STALLS.match(text)) is None:
        return None
    return PressureStall(
        some=float(found[1]) / 100,
        full=float(found[3] or 0) / 100,
        total=int(found[2]) / _MICRO,
        full_total=int(found[4] or 0) / _MICRO,
    )


def parse_network(text: str) -> tuple[int | None, int | None]:
    """Return bytes received and sent on all interfaces of ``/proc/PID/net/dev`` but loopback; None without the file."""
    if not text:
        return None, None
    rows = [(name.strip(), rest.split()) for name, _, rest in (line.partition(":") for line in text.splitlines()[2:])]
    found = [fields for name, fields in rows if name != "lo" and len(fields) >= 9]
    return sum(int(fields[0]) for fields in found), sum(int(fields[8]) for fields in found)


def _parse_disks(texts: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return bytes read and written on all devices."""
    if "io.stat" in texts:
        rows = [dict(_assignments(line)) for line in texts["io.stat"].splitlines()]
        return sum(int(row.get("rbytes", 0)) for row in rows), sum(int(row.get("wbytes", 0)) for row in rows)
    name = "blkio.throttle.io_service_bytes_recursive"
    if name not in texts:
        return None, None
    lines = [line.split() for line in texts[name].splitlines()]
    sums = [sum(int(row[2]) for row in lines if len(row) == 3 and row[1] == what) for what in ("Read", "Write")]
    return sums[0], sums[1]


def _assignments(line: str) -> list[tuple[str, str]]:
    return [(name, value) for name, found, value in (word.partition("=") for word in line.split()) if found]


def _find(text: str, *names: str) -> int | None:
    """Return the number of the first of these names that a long file has, without parsing the rest of it."""
    for name in names:
        _, found, after = f"\n{text}".partition(f"\n{name} ")
        if found:
            return _number(after.partition("\n")[0])
    return None


def _number(text: str) -> int | None:
    value = text.strip()
    return int(value) if value.isdecimal() else None


def _limit(text: str) -> int | None:
    value = _number(text)
    return value if value is not None and value < _UNLIMITED else None


def _seconds(micro: int | None, nano: int | None) -> float | None:
    """Return seconds: v2 counts microseconds, v1 nanoseconds."""
    if micro is not None:
        return micro / _MICRO
    return None if nano is None else nano / _NANO
