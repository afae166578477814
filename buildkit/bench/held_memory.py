"""Free memory of a virtual machine is filled with a file before each turn of a race.

Such a machine may give free memory back to its host (free page reporting of virtio-balloon). Whoever uses a page next
waits for the host, and copies a tenth as fast as usual. A file that was read is no free memory: the kernel drops it for
whoever needs room, and the page is at hand, as on a machine that has run for a while.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_LEFT = 150 << 20  # bytes; the kernel keeps some, and more on larger machines
_BLOCK = 8 << 20
_STEP = 8 * _BLOCK  # bytes between two looks at what is free


class HeldMemory:
    """Reads a sparse file in ``folder``, as large as the memory; ``free`` returns the free bytes."""

    def __init__(self, folder: Path, *, size: int | None = None, free: Callable[[], int] | None = None) -> None:
        self._path = folder / "held-memory"
        self._size = size or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._free = free or find_free_memory
        self._offset = 0  # what was read longest ago is dropped first

    def fill(self) -> None:
        """Read until little memory is free, or as much as the kernel may have dropped meanwhile."""
        with self._path.open("ab+", buffering=0) as file:
            file.truncate(self._size)
            buffer, most = bytearray(_BLOCK), min(self._size, 2 * self._free())
            for done in range(0, most, _BLOCK):
                if done % _STEP == 0 and self._free() <= _LEFT:
                    break
                os.preadv(file.fileno(), [buffer], self._offset)
                self._offset = (self._offset + _BLOCK) % self._size


def find_free_memory() -> int:
    """Return the bytes of memory that nothing uses, neither as cache."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemFree:"))
