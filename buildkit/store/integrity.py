"""Read a cache's files again, from the disk, and verify that they match the hashes they are named by."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from buildkit.errors import Interrupted
from buildkit.store.blobs import remove_same
from buildkit.store.cache_files import CacheFile
from buildkit.worker_pool import WorkerPool

_CHUNK = 4 << 20
_WORKERS = 2  # one waits for the disk while the other hashes


class CacheFileVerifier:
    """Reads files below a cache's folder, and removes damaged ones; of a link, the link only.

    ``damaged`` maps paths to what is wrong with them; ``files`` and ``size`` count what was read, also by a run that
    was interrupted. ``progress`` is called with the bytes read so far.
    """

    def __init__(self, folder: Path, progress: Callable[[int], None], stop: threading.Event) -> None:
        self.damaged: dict[str, str] = {}
        self.files = 0
        self.size = 0
        self._folder = folder
        self._progress = progress
        self._stop = stop
        self._lock = threading.Lock()

    def verify(self, files: Iterable[CacheFile]) -> None:
        """Read all files. One that cannot be opened is reported and stays; one that vanishes meanwhile is skipped.

        Raises Interrupted once ``stop`` is set.
        """
        largest_first = sorted(files, key=lambda file: -file.size)
        with WorkerPool(_WORKERS) as pool:
            try:
                for _ in pool.map(self._verify, largest_first):
                    pass
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _verify(self, file: CacheFile) -> None:
        problem = self._find_problem(self._folder / file.path, file.hex)
        with self._lock:
            self.files += 1
            if problem:
                self.damaged[file.path] = problem

    def _find_problem(self, path: Path, expected: str) -> str:
        """Return what is wrong with a file, empty if nothing is."""
        try:
            with path.open("rb", buffering=0) as file:
                read = os.fstat(file.fileno())
                try:
                    problem = "" if self._hash(file.fileno()) == expected else _describe(path)
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    problem = f"cannot be read: {error.strerror}"
                return problem if problem and remove_same(path, read) else ""
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    def _hash(self, handle: int) -> str:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # read the disk, not the page cache
        hasher = hashlib.sha256()
        while chunk := os.read(handle, _CHUNK):
            hasher.update(chunk)
            self._count(len(chunk))
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # leave the page cache to other files
        return hasher.hexdigest()

    def _count(self, size: int) -> None:
        if self._stop.is_set():
            raise Interrupted("interrupted")
        with self._lock:
            self.size += size
            self._progress(self.size)


def _describe(path: Path) -> str:
    return f"{path.readlink()} has other bytes by now" if path.is_symlink() else "its bytes are others"
