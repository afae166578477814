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
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path

from buildkit.digest import FileHash
from buildkit.errors import BuildError, Interrupted
from buildkit.events import Emit, StepFailed, StepFinished, StepProgress, StepStarted, ignore_event
from buildkit.store.ledger import Ledger
from buildkit.store.tables.files import StatKey
from buildkit.tools.malloc_arenas import limit_arenas
from buildkit.worker_pool import WorkerPool

_GRANULARITY_NS = 20_000_000  # kernels stamp files with the time of the last tick, at most 10 ms old
_COARSE_NS = 2_000_000_000  # and some file systems (FAT, NFS servers) keep whole seconds
_CHUNK = 1 << 20
_LARGE = 128 << 20  # bytes that take long enough to read to show progress
_RECORDED_AT_ONCE = 1000
_MANY = 1000  # files that are worth another row
_fields = attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")

Hashed = tuple[FileHash, os.stat_result]
HashedRow = tuple[StatKey, FileHash, int]


class StatIndex:
    """File hashes, recorded in a ledger; ``emit`` gets the progress of reading large files."""

    def __init__(self, ledger: Ledger, emit: Emit = ignore_event) -> None:
        self._files = ledger.files
        self._emit = emit
        self._stop = threading.Event()

    def hash_all(self, folder: Path, names: Iterable[str]) -> dict[str, Hashed]:
        """Return hash and stat of those names below ``folder`` that are files; unknown ones are read, several at once.

        A link, and what cannot be read, is not among them. All known files take one query; many that were all known
        take one row from then on.
        """
        at = f"{folder}/"  # once: a path makes its text anew for each name
        stats = {name: status for name in names if (status := _stat_file(at + name)) is not None}
        found = self._find_all(at, stats)
        unknown = [name for name in stats if name not in found]
        for start in range(0, len(unknown), _RECORDED_AT_ONCE):
            part = unknown[start : start + _RECORDED_AT_ONCE]
            read = zip(part, self._read_all([f"{folder}/{name}" for name in part]), strict=True)
            found |= {name: hashed for name, hashed in read if hashed is not None}
        return found

    def _find_all(self, at: str, stats: Mapping[str, os.stat_result]) -> dict[str, Hashed]:
        """Return those files that are unchanged since they were hashed."""
        names, fields, is_many = list(stats), list(map(_fields, stats.values())), len(stats) >= _MANY
        place = repr((at, names[:1], names[-1:]))  # names between come and go: the next listing takes the place
        listing = self._files.find_listing(place, fields) if is_many else None
        if listing is not None and listing[1] <= time.time_ns():
            return dict(zip(stats, zip(listing[0], stats.values(), strict=True), strict=True))
        keys = list(map(StatKey._make, fields))
        known, now = self._files.find_all(keys), time.time_ns()
        found = {
            name: (row[0], status)
            for (name, status), key in zip(stats.items(), keys, strict=True)
            if (row := known.get(key)) is not None and _is_believed(status, row[1], now)
        }
        if is_many and len(found) == len(stats):
            newest = max(hashed_ns for _, hashed_ns in known.values())
            with suppress(BuildError):  # a full disk
                self._files.add_listing(place, fields, (sha256 for sha256, _ in found.values()), newest)
        return found

    def _read_all(self, paths: Sequence[str]) -> list[Hashed | None]:
        limit_arenas()  # these are the first threads of a build that has something to do
        with WorkerPool(min(len(os.sched_getaffinity(0)), len(paths))) as pool:
            try:
                read = list(pool.map(self._try, paths))
            except BaseException:
                self._stop.set()
                raise
        self._record([row for _, row in read if row is not None])
        return [hashed for hashed, _ in read]

    def _try(self, path: str) -> tuple[Hashed | None, HashedRow | None]:
        with suppress(OSError):
            hashed, row = self._read(Path(path))
            if row is None or row[0].size < _LARGE:
                return hashed, row
            self._record([row])  # at once: another file, or an interrupt, may take long
            return hashed, None
        return None, None

    def _record(self, rows: Sequence[HashedRow]) -> None:
        if rows:
            with suppress(BuildError):  # a full disk cannot record them, so they are read again
                self._files.add_all(rows)

    def hash(self, path: Path) -> Hashed:
        """Return the file's SHA-256 and its stat; raises OSError."""
        status = path.stat()
        known = self.find(status)
        if known is not None:
            return known, status
        hashed, row = self._read(path)
        self._record([row] if row is not None else [])
        return hashed

    def note(self, before: os.stat_result, after: os.stat_result, sha256: FileHash, began: int) -> None:
        """Record the hash of a file, if it did not change meanwhile; ``began`` is when hashing began (ns)."""
        row = _row(before, after, sha256, began)
        self._record([row] if row is not None else [])

    def _read(self, path: Path) -> tuple[Hashed, HashedRow | None]:
        """Hash a file; the row to record is None if it changed meanwhile. Raises Interrupted in a thread."""
        began = time.time_ns()
        with path.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            with self._progress_of(path, before.st_size) as progress:
                sha256 = _hash(file.fileno(), self._unless_stopped(progress))
            after = os.fstat(file.fileno())
        return (sha256, after), _row(before, after, sha256, began)

    def find(self, stat: os.stat_result) -> FileHash | None:
        """Return the hash of a file that is unchanged since it was hashed, or None."""
        known = self._files.find(stat_key(stat))
        return known[0] if known is not None and _is_believed(stat, known[1], time.time_ns()) else None

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


def _stat_file(path: str) -> os.stat_result | None:
    """Return the stat of a regular file, None for anything else."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _row(before: os.stat_result, after: os.stat_result, sha256: FileHash, began: int) -> HashedRow | None:
    return (stat_key(before), sha256, began) if stat_key(after) == stat_key(before) else None


def _is_believed(stat: os.stat_result, hashed_ns: int, now: int) -> bool:
    return is_settled(stat, hashed_ns) and hashed_ns <= now


def stat_key(stat: os.stat_result) -> StatKey:
    """Return what tells whether a file changed."""
    return StatKey._make(_fields(stat))


def is_settled(stat: os.stat_result, hashed_ns: int) -> bool:
    """Return whether a file that was read at that time (ns) would have other times if it had changed since."""
    written, changed = stat.st_mtime_ns, stat.st_ctime_ns
    newest = max(changed, written)  # not max(), for every file of a checkout
    if newest + _COARSE_NS < hashed_ns:
        return True
    whole = written % 1_000_000_000 == 0 and changed % 1_000_000_000 == 0
    return not whole and newest + _GRANULARITY_NS < hashed_ns


def _hash(descriptor: int, progress: Callable[[int], None]) -> FileHash:
    digest, done = hashlib.sha256(), 0
    while chunk := os.read(descriptor, _CHUNK):
        digest.update(chunk)
        done += len(chunk)
        progress(done)
    return FileHash(digest.hexdigest())
