"""Hash files without reading those that did not change: O(files), not O(bytes).

A file counts as unchanged if device, inode, size, mtime and ctime are the same as when it was hashed, and
both times precede the hashing by more than the clock's granularity (git's rule for racy entries): a file
written in the same tick as it was hashed, or whose times lie in the future, is read again. So is one that was hashed
in the future: the clock was set back, and may stamp another content as it stamped that one.

Two things leave no trace in a file's stat, here as in git: what a program stores through a mapping that it has had
since before the hashing, into a page that was not yet written back; and a change within the lag of a file server
whose clock is behind ours.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from buildkit.digest import FileHash
from buildkit.errors import BuildError, Interrupted
from buildkit.events import Emit, StepFailed, StepFinished, StepProgress, StepStarted, ignore_event
from buildkit.store.ledger import Ledger
from buildkit.store.tables.files import StatKey
from buildkit.worker_pool import WorkerPool

_GRANULARITY_NS = 20_000_000  # kernels stamp files with the time of the last tick, at most 10 ms old
_COARSE_NS = 2_000_000_000  # and some file systems (FAT, NFS servers) keep whole seconds
_CHUNK = 1 << 20
_LARGE = 128 << 20  # bytes that take long enough to read to show progress


class StatIndex:
    """File hashes, recorded in a ledger; ``emit`` gets the progress of reading large files."""

    def __init__(self, ledger: Ledger, emit: Emit = ignore_event) -> None:
        self._files = ledger.files
        self._emit = emit
        self._stop = threading.Event()

    def learn(self, paths: Iterable[Path]) -> None:
        """Hash unknown files, several at once; one that cannot be read raises only when `hash` is called for it."""
        unknown = [path for path in paths if self._is_new(path)]
        if len(unknown) < 2:
            return
        with WorkerPool(len(os.sched_getaffinity(0))) as pool:
            try:
                list(pool.map(self._try, unknown))
            except BaseException:
                self._stop.set()
                raise

    def _is_new(self, path: Path) -> bool:
        with suppress(OSError):
            return self.find(path.stat()) is None
        return False

    def _try(self, path: Path) -> None:
        with suppress(OSError):
            self.hash(path)

    def hash(self, path: Path) -> tuple[FileHash, os.stat_result]:
        """Return the file's SHA-256 and its stat; raises OSError, and Interrupted in a thread of `learn`."""
        stat, began = path.stat(), time.time_ns()
        known = self.find(stat)
        if known is not None:
            return known, stat
        with path.open("rb", buffering=0) as file, self._progress_of(path, stat.st_size) as progress:
            stat = os.fstat(file.fileno())
            sha256 = _hash(file.fileno(), self._unless_stopped(progress))
            after = os.fstat(file.fileno())
        self.note(stat, after, sha256, began)
        return sha256, after

    def find(self, stat: os.stat_result) -> FileHash | None:
        """Return the hash of a file that is unchanged since it was hashed, or None."""
        known = self._files.find(_key(stat))
        settled = known is not None and _settled(stat, known[1]) and known[1] <= time.time_ns()
        return known[0] if known is not None and settled else None

    def note(self, before: os.stat_result, after: os.stat_result, sha256: FileHash, began: int) -> None:
        """Record the hash of a file, if it did not change meanwhile; ``began`` is when hashing began (ns)."""
        if _key(after) == _key(before):
            with suppress(BuildError):  # a full disk cannot record it, so it is read again
                self._files.add(_key(before), sha256, began)

    def _unless_stopped(self, progress: Callable[[int], None]) -> Callable[[int], None]:
        def report(done: int) -> None:
            if self._stop.is_set():
                raise Interrupted("interrupted")
            progress(done)

        return report

    @contextmanager
    def _progress_of(self, path: Path, size: int) -> Iterator[Callable[[int], None]]:
        """Yield a function to call with the bytes read so far."""
        if size < _LARGE:
            yield lambda _done: None
            return
        name, began = path.name, time.monotonic()
        self._emit(StepStarted(step=name, phase="hash", total=size))
        try:
            yield lambda done: self._emit(StepProgress(step=name, done=done))
        except BaseException as error:
            self._emit(StepFailed(step=name, phase="hash", message=str(error)))
            raise
        self._emit(StepFinished(step=name, phase="hash", seconds=time.monotonic() - began, size=size))


def _key(stat: os.stat_result) -> StatKey:
    return StatKey(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _settled(stat: os.stat_result, hashed_ns: int) -> bool:
    newest = max(stat.st_mtime_ns, stat.st_ctime_ns)
    whole = stat.st_mtime_ns % 1_000_000_000 == 0 and stat.st_ctime_ns % 1_000_000_000 == 0
    return newest + (_COARSE_NS if whole else _GRANULARITY_NS) < hashed_ns


def _hash(descriptor: int, progress: Callable[[int], None]) -> FileHash:
    digest, done = hashlib.sha256(), 0
    while chunk := os.read(descriptor, _CHUNK):
        digest.update(chunk)
        done += len(chunk)
        progress(done)
    return FileHash(digest.hexdigest())
