"""Blobs: content-addressed files. Bytes get their name last.

Contract: a file under its digest is complete. Whoever makes one writes to a temporary file of the same file
system, hashes while writing, flushes to the disk, and renames. Temporary files of processes that died are removed by
``sweep``; those of living ones are recognised by the lock that their writer holds, whatever any clock says. Any
number of processes may use one folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from buildkit.digest import Digest, FileHash, Key
from buildkit.errors import BuildError, Interrupted, describe_disk_error

if TYPE_CHECKING:
    from buildkit.store.leases import Leases

_POLL_SECONDS = 0.05


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

    @cached_property
    def notes(self) -> Leases:
        """Notes of what builds with this cache make elsewhere."""
        from buildkit.store.leases import Leases

        return Leases(self.folder / "boxes")

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
        """Read blobs again and remove those that are not what they are named; which those were.

        Where another process has made one anew meanwhile, that stays.
        """
        import hashlib

        damaged = []
        for digest in digests:
            with contextlib.suppress(FileNotFoundError), self.path(digest).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest.hex:
                    remove_same(self.path(digest), os.fstat(file.fileno()))
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
        with explained(self.folder), claimed_file(self._temporary) as out:
            yield out

    def keep(self, out: BinaryIO, path: Path) -> None:
        """Give what was written its final name, on the disk before it is seen."""
        with explained(self.folder):
            out.flush()
            os.fsync(out.fileno())
            Path(out.name).chmod(0o644)
            Path(out.name).replace(path)

    def adopt(self, file: Path, path: Path) -> None:
        """Give a complete file of a working folder its final name too, on the disk before it is seen."""
        with explained(self.folder), file.open("rb") as out, self.working_folder() as folder:
            os.fsync(out.fileno())
            file.chmod(0o644)
            (folder / path.name).hardlink_to(file)  # an image may have one layer twice: its file stays
            (folder / path.name).replace(path)

    @contextmanager
    def working_folder(self) -> Iterator[Path]:
        """An empty folder beside the blobs (links to them cost nothing), removed at the end."""
        with explained(self.folder), _claimed_folder(self._temporary) as folder:
            yield folder

    @contextmanager
    def building(self, key: Key, stopped: Callable[[], bool]) -> Iterator[None]:
        """Hold the right to build ``key``: another process that builds it is awaited. Raises Interrupted."""
        with explained(self.folder), (self._locks / key.hex).open("w") as lock:
            _acquire(lock.fileno(), fcntl.LOCK_EX, lambda: None, stopped)
            yield

    def sweep(self) -> None:
        """Remove temporary files and folders that no living process writes; looks into the folder of every download."""
        self.sweep_quickly()
        _sweep(self._files.glob("*/.*"))

    def sweep_quickly(self) -> None:
        """Remove them where looking costs nothing: beginnings of downloads stay."""
        _sweep(self._temporary.iterdir())


@contextmanager
def claimed_file(folder: Path, prefix: str = "", suffix: str = "") -> Iterator[BinaryIO]:
    """A new temporary file that sweeping leaves alone; gone at the end unless it was renamed. Raises OSError."""
    while True:
        path = folder / f"{prefix}{os.getpid()}-{os.urandom(6).hex()}{suffix}"
        with path.open("x+b") as out:
            if not claim(out.fileno(), path):
                continue
            try:
                yield cast("BinaryIO", out)
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def _claimed_folder(parent: Path) -> Iterator[Path]:
    import shutil

    while True:
        folder = parent / f"dir-{os.urandom(6).hex()}"
        folder.mkdir(0o700)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # a sweeper was quicker still
            continue
        try:
            if not claim(handle, folder):
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return
        finally:
            os.close(handle)


def remove_same(path: Path, read: os.stat_result) -> bool:
    """Remove the very file that was read; False where that is done, or another took its place since. Raises OSError."""
    try:
        same = os.path.samestat(path.stat(), read)
        if same:
            path.unlink()
    except FileNotFoundError:
        return False
    return same


def claim(handle: int, path: Path) -> bool:
    """Lock a file or folder that was just made; False where a sweeper was quicker, and it is gone. Raises OSError."""
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sweep(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # another user's are theirs to remove, and another sweeper is quicker
            _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    """Remove what nobody has locked, its lock in our hands, so that who has just made it makes another one."""
    import shutil

    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(handle)


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


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into an error that says so."""
    try:
        yield
    except OSError as error:
        if not describe_disk_error(error):
            raise
        raise BuildError(
            f"{folder}: {describe_disk_error(error)}",
            hint="free some room, or move the cache: BUILDKIT_CACHE=/path; nothing half-written is kept",
        ) from error
