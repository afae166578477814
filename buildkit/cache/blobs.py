"""Blobs: content-addressed files. Bytes get their name last.

Contract: a file under its digest is complete. Whoever makes one writes to a temporary file of the same file
system, hashes while writing, flushes to the disk, and renames. Temporary files of processes that died are removed by
``sweep``; those of living ones are recognised by the lock that their writer holds. Any number of processes may use
one folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from buildkit.digest import Digest, FileHash, Key
from buildkit.errors import BuildError, Interrupted

_POLL_SECONDS = 0.05
_FILE_SECONDS = 60.0  # between making a temporary file and locking it, it looks dead
_LONG_SECONDS = 24 * 3600.0  # downloads (`.NAME.part`) are not locked


class Blobs:
    """The files of a cache folder: ``sha256/HEX`` are layers, ``files/HEX/NAME`` are downloads and compiled wheels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "sha256"
        self._files = folder / "files"
        self._temporary = folder / "tmp"
        self._locks = folder / "locks"
        for made in (self._blobs, self._files, self._temporary, self._locks):
            made.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / digest.hex

    def has(self, digest: Digest, size: int) -> bool:
        """Whether the blob is there with its size; its bytes are not read."""
        try:
            return self.path(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def drop_damaged(self, digests: Iterable[Digest]) -> tuple[Digest, ...]:
        """Read blobs again and remove those that are not what they are named; which those were."""
        import hashlib

        damaged = []
        for digest in digests:
            with contextlib.suppress(FileNotFoundError), self.path(digest).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest.hex:
                    self.path(digest).unlink()
                    damaged.append(digest)
        return tuple(damaged)

    def file_path(self, sha256: FileHash, name: str) -> Path:
        """Where a download or a compiled wheel is, or would be; its folder is made."""
        folder = self._files / sha256.hex
        folder.mkdir(exist_ok=True)
        return folder / name

    def has_file(self, sha256: FileHash, name: str) -> bool:
        """Whether a download or a compiled wheel is there."""
        return (self._files / sha256.hex / name).exists()

    @contextmanager
    def in_use(self, *, alone: bool, waiting: Callable[[], None], stopped: Callable[[], bool]) -> Iterator[None]:
        """Hold the cache: with others who build, or ``alone`` to take things away. Calls ``waiting`` if it must wait.

        Raises Interrupted.
        """
        with explained(self.folder), (self._locks / "in-use").open("w") as lock:
            _acquire(lock.fileno(), fcntl.LOCK_EX if alone else fcntl.LOCK_SH, waiting, stopped)
            yield

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """A temporary file; it is gone at the end unless ``keep`` named it."""
        path = self._temporary / f"{os.getpid()}-{time.monotonic_ns()}"
        with explained(self.folder), path.open("x+b") as out:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                yield cast("BinaryIO", out)
            finally:
                path.unlink(missing_ok=True)

    def keep(self, out: BinaryIO, path: Path) -> None:
        """Give what was written its final name, on the disk before it is seen."""
        with explained(self.folder):
            out.flush()
            os.fsync(out.fileno())
            Path(out.name).chmod(0o644)
            Path(out.name).replace(path)

    @contextmanager
    def working_folder(self) -> Iterator[Path]:
        """An empty folder beside the blobs (links to them cost nothing), removed at the end."""
        import tempfile

        with explained(self.folder), tempfile.TemporaryDirectory(dir=self._temporary, prefix="dir-") as name:
            handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # says to ``sweep`` that its maker lives
                yield Path(name)
            finally:
                os.close(handle)

    @contextmanager
    def building(self, key: Key, stopped: Callable[[], bool]) -> Iterator[None]:
        """Hold the right to build ``key``: another process that builds it is awaited. Raises Interrupted."""
        with explained(self.folder), (self._locks / key.hex).open("w") as lock:
            _acquire(lock.fileno(), fcntl.LOCK_EX, lambda: None, stopped)
            yield

    def sweep(self) -> None:
        """Remove temporary files and folders that no living process writes."""
        import shutil

        now = time.time()
        for path in (*self._temporary.iterdir(), *self._files.glob("*/.*")):
            with contextlib.suppress(FileNotFoundError, PermissionError):  # another user's are theirs to remove
                if not _is_abandoned(path, now - path.stat().st_mtime):
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def _acquire(handle: int, kind: int, waiting: Callable[[], None], stopped: Callable[[], bool]) -> None:
    """Wait for a lock of flock(2), without blocking signals; ``waiting`` is called once, at the first refusal."""
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return
        waiting()
        waiting = _nothing
        if stopped():
            raise Interrupted("interrupted")
        time.sleep(_POLL_SECONDS)


def _nothing() -> None:
    pass


def _is_abandoned(path: Path, age: float) -> bool:
    if path.name.startswith("."):
        return age > _LONG_SECONDS
    return age > _FILE_SECONDS and not _locked(path)


def _locked(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into an error that says so."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the file system is read-only",
        }
        if error.errno not in reasons:
            raise
        raise BuildError(
            f"{folder}: {reasons[error.errno]}",
            hint="free some room, or move the cache: BUILDKIT_CACHE=/path; nothing half-written is kept",
        ) from error
