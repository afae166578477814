"""Whether there is room on a disk: programs do not always say that it was full."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_LEAST_BYTES, _LEAST_FILES = 1 << 16, 2


def is_disk_full(place: Path | str) -> bool:
    """Whether the disk of ``place`` has no room to speak of, for bytes or for files; no where it does not tell."""
    with suppress(OSError):
        room = os.statvfs(place)
        bytes_are_out = room.f_blocks > 0 and room.f_bavail * room.f_frsize < _LEAST_BYTES
        return bytes_are_out or (room.f_files > 0 and room.f_favail < _LEAST_FILES)
    return False
