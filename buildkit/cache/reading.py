"""Reading a cache's files again, from the disk, to see whether they still are what they are named."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from buildkit.cache.inventory import Found
from buildkit.errors import Interrupted

_CHUNK = 4 << 20
_WORKERS = 2  # one waits for the disk while the other hashes


def read_again(
    folder: Path, files: Sequence[Found], progress: Callable[[int], None], stop: threading.Event
) -> dict[str, str]:
    """Read files below a cache's folder, and remove those that are damaged: path to what is wrong with each.

    One that cannot be opened is named and stays. ``progress`` is told the bytes read so far. What vanishes meanwhile is
    nobody's fault. Raises Interrupted once ``stop`` is set.
    """
    reader = _Reader(folder, progress, stop)
    largest_first = sorted(files, key=lambda found: -found.size)
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            wrong = zip(largest_first, pool.map(reader.look, largest_first), strict=True)
            return {found.path: what for found, what in wrong if what}
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


class _Reader:
    def __init__(self, folder: Path, progress: Callable[[int], None], stop: threading.Event) -> None:
        self._folder = folder
        self._progress = progress
        self._stop = stop
        self._lock = threading.Lock()
        self._done = 0

    def look(self, found: Found) -> str:
        """What is wrong with a file; empty if nothing is."""
        path = self._folder / found.path
        try:
            with path.open("rb", buffering=0) as file:
                if self._hash(file.fileno()) == found.hex:
                    return ""
                return self._drop(path, os.fstat(file.fileno()), "its bytes are others")
        except FileNotFoundError:
            return ""
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            return self._drop(path, path.stat(), what) if error.errno == errno.EIO else what

    def _drop(self, path: Path, read: os.stat_result, what: str) -> str:
        """Remove what was read; a build may have put another file in its place since."""
        now = path.stat()
        if (now.st_dev, now.st_ino) != (read.st_dev, read.st_ino):
            return ""
        path.unlink()
        return what

    def _hash(self, handle: int) -> str:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # what memory still has of it says nothing of the disk
        hasher = hashlib.sha256()
        while chunk := os.read(handle, _CHUNK):
            hasher.update(chunk)
            self._count(len(chunk))
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # nobody else's files shall make room for these
        return hasher.hexdigest()

    def _count(self, size: int) -> None:
        if self._stop.is_set():
            raise Interrupted("interrupted")
        with self._lock:
            self._done += size
            self._progress(self._done)
