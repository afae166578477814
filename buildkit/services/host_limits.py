"""How many replicas this host bears: their limits of memory and CPUs fit beside those of everything else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from buildkit.declare.gpu_request import parse_size
from buildkit.declare.stage import Running

_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCapacity:
    """Bytes of memory, and CPUs that this process may use."""

    memory: int
    cpus: int


def find_capacity() -> HostCapacity:
    """Return the capacity of this host."""
    total = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemTotal:"))
    return HostCapacity(memory=int(total.split()[1]) * 1024, cpus=len(os.sched_getaffinity(0)))


def count_bearable(replica: Running, others: Iterable[Running], host: HostCapacity) -> tuple[int, str]:
    """Return how many replicas fit beside the others, and what there is not enough of for more."""
    running = list(others)
    memory = (host.memory - sum(parse_size(one.memory) for one in running)) // parse_size(replica.memory)
    limits = [(memory, f"memory ({replica.memory} each of {host.memory >> 20} MiB)")]
    if replica.cpus:
        cpus = int((host.cpus - sum(one.cpus for one in running)) // replica.cpus)
        limits.append((cpus, f"CPUs ({replica.cpus:g} each of {host.cpus})"))
    most, reason = min(limits)
    return max(most, 0), reason
