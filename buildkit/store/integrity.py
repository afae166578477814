"""Reading a cache's files again, from the disk, to see whether they still are what they are named."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from buildkit.errors import Interrupted
from buildkit.store.blobs import remove_same
from buildkit.store.cache_files import Found

_CHUNK = 4 << 20
_WORKERS = 2  # one waits for the disk while the other hashes


class Reader:
    """Reads files below a cache's folder, and removes those that are damaged.

    ``wrong`` is what was found, path to what is wrong with it, ``files`` and ``size`` what was read: also of a reading
    that did not come to its end. ``progress`` is told the bytes read so far.
    """

    def __init__(self, folder: Path, progress: Callable[[int], None], stop: threading.Event) -> None:
        self.wrong: dict[str, str] = {}
        self.files = 0
        self.size = 0
        self._folder = folder
        self._progress = progress
        self._stop = stop
        self._lock = threading.Lock()

    def read(self, files: Iterable[Found]) -> None:
        """Read them all. One that cannot be opened is named and stays. What vanishes meanwhile is nobody's fault.

        Raises Interrupted once ``stop`` is set.
        """
        largest_first = sorted(files, key=lambda found: -found.size)
        with ThreadPoolExecutor(_WORKERS) as pool:
            try:
                for _ in pool.map(self._look, largest_first):
                    pass
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _look(self, found: Found) -> None:
        what = self._examine(self._folder / found.path, found.hex)
        with self._lock:
            self.files += 1
            if what:
                self.wrong[found.path] = what

    def _examine(self, path: Path, wanted: str) -> str:
        """What is wrong with a file; empty if nothing is."""
        try:
            with path.open("rb", buffering=0) as file:
                read = os.fstat(file.fileno())
                try:
                    what = "" if self._hash(file.fileno()) == wanted else "its bytes are others"
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    what = f"cannot be read: {error.strerror}"
                return what if what and remove_same(path, read) else ""
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"cannot be read: {error.strerror}"

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
            self.size += size
            self._progress(self.size)
