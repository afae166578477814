"""How much memory this process may use: the smaller of the machine's and its cgroup's limit."""

from __future__ import annotations

import os
from pathlib import Path

from xoe_runtime.cpus import CGROUP


def count_memory(cgroup: Path = CGROUP) -> int:
    """Return the bytes of memory that this process may use.

    Version 2 of cgroups says "max" where there is no limit, version 1 a number beyond every machine.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    words = _words(cgroup / "memory.max") or _words(cgroup / "memory" / "memory.limit_in_bytes")
    limits = [int(word) for word in words if word.isdigit()]
    return min([machine, *(limit for limit in limits if limit > 0)])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):  # not this version of cgroups, or not mounted
        return []
