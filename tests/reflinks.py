"""A real file system in which files can share blocks: XFS in a file, mounted."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildkit.store.stat_index import is_settled

_SIZE = 320 << 20  # the least that mkfs.xfs takes; the file has holes


@contextmanager
def sharing_blocks(folder: Path) -> Iterator[Path]:
    """Yield the root of an empty XFS, kept below ``folder``; skip the test where none can be mounted."""
    image, place = folder / "xfs.img", folder / "xfs"
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        pytest.skip("only root may mount XFS, and xfsprogs makes it")
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(_SIZE)
    subprocess.run(("mkfs.xfs", "-q", str(image)), check=True)
    mounted = subprocess.run(("mount", "-o", "loop", str(image), str(place)), capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"XFS cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(("umount", "--lazy", str(place)), check=True)
        image.unlink()


def used_bytes(place: Path) -> int:
    """Return how many bytes of a file system are used, after what is pending was written."""
    os.sync()
    found = os.statvfs(place)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def wait_until_settled(path: Path) -> None:
    """Wait until a later change of a file gives it other times."""
    while not is_settled(path.stat(), time.time_ns()):
        time.sleep(0.005)
