"""Free memory is filled with the pages of a sparse file."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

from buildkit.bench.held_memory import HeldMemory, find_free_memory

BLOCK = 8 << 20
STEP = 8 * BLOCK


def is_cached(path: Path, offset: int) -> bool:
    """Whether a page of a file is in memory (mincore(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    with path.open("rb") as file:
        page = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), offset)
    found = ctypes.c_ubyte()
    assert libc.mincore(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), ctypes.byref(found)) == 0
    libc.munmap(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE))
    return bool(found.value & 1)


def test_file_is_read_until_little_memory_is_free(tmp_path: Path) -> None:
    left = [3 << 30, 3 << 30, 2 << 30, 1 << 20]
    HeldMemory(tmp_path, size=4 * STEP, free=lambda: left.pop(0)).fill()
    held = tmp_path / "held-memory"
    assert not left
    assert (is_cached(held, 0), is_cached(held, 2 * STEP - BLOCK)) == (True, True)
    assert not is_cached(held, 3 * STEP + STEP // 2)
    assert held.stat().st_blocks == 0  # nothing of it is on the disk


def test_next_turn_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    free = iter([3 << 30, 3 << 30, 0] * 2)
    memory = HeldMemory(tmp_path, size=3 * STEP, free=lambda: next(free))
    held = tmp_path / "held-memory"
    memory.fill()
    assert (is_cached(held, 0), is_cached(held, STEP + STEP // 2)) == (True, False)
    memory.fill()
    assert (is_cached(held, STEP), is_cached(held, 2 * STEP + STEP // 2)) == (True, False)


def test_memory_that_stays_free_ends_nothing_but_the_turn(tmp_path: Path) -> None:
    HeldMemory(tmp_path, size=2 * STEP, free=lambda: 3 << 30).fill()
    assert find_free_memory() > 0
