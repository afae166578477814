"""Detect a full disk, because programs do not always report it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_LEAST_BYTES, _LEAST_FILES = 1 << 16, 2


def is_disk_full(place: Path | str) -> bool:
    """Return whether the disk of ``place`` has next to no free blocks or inodes; false if that is unknown."""
    with suppress(OSError):
        disk = os.statvfs(place)
        bytes_are_out = disk.f_blocks > 0 and disk.f_bavail * disk.f_frsize < _LEAST_BYTES
        return bytes_are_out or (disk.f_files > 0 and disk.f_favail < _LEAST_FILES)
    return False
