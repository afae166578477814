"""The files of a cache folder, named by their content. A file gets its name last, so that a named file is complete.

A writer writes to a temporary file of the same file system, hashes while writing, flushes to the disk, and renames.
``sweep`` removes temporary files of dead processes; locks tell them from those of living ones. Any number of processes
may use one folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from buildkit.digest import Digest, FileHash, Key
from buildkit.store.file_locks import (
    acquire_lock,
    disk_errors_explained,
    locked_temporary_file,
    locked_temporary_folder,
    remove_abandoned,
)
from buildkit.store.leases import Leases


class Blobs:
    """The files of a cache folder: ``sha256/HEX`` are layers, ``files/HEX/NAME`` are downloads and compiled wheels.

    A wheel of a local folder is a link to it (`InputFiles.fetch`). One that leads nowhere counts as absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "sha256"
        self._files = folder / "files"
        self._temporary = folder / "tmp"
        self._locks = folder / "locks"
        for subfolder in (self._blobs, self._files, self._temporary, self._locks):
            subfolder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @cached_property
    def leases(self) -> Leases:
        """Leases on working containers of builds with this cache."""
        return Leases(self.folder / "boxes")

    def path(self, digest: Digest) -> Path:
        """Return where the blob is, or would be."""
        return self._blobs / digest.hex

    def has(self, digest: Digest, size: int) -> bool:
        """Return whether the blob exists with this size; its bytes are not read."""
        try:
            return self.path(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def drop_damaged(self, digests: Iterable[Digest]) -> tuple[Digest, ...]:
        """Read blobs again, remove those that do not match their digests, and return the digests of those removed.

        A blob that another process has rebuilt meanwhile stays, and is not among them.
        """
        import hashlib

        damaged = []
        for digest in digests:
            with contextlib.suppress(FileNotFoundError), self.path(digest).open("rb") as file:
                differs = hashlib.file_digest(file, "sha256").hexdigest() != digest.hex
                if differs and remove_same(self.path(digest), os.fstat(file.fileno())):
                    damaged.append(digest)
        return tuple(damaged)

    def file_path(self, sha256: FileHash, name: str) -> Path:
        """Return where a download or a compiled wheel is, or would be; create its folder."""
        folder = self._files / sha256.hex
        folder.mkdir(exist_ok=True)
        return folder / name

    def has_file(self, sha256: FileHash, name: str) -> bool:
        """Return whether a download or a compiled wheel exists."""
        return os.path.exists(self._files / sha256.hex / name)  # noqa: PTH110 - a link may lead where we may not look

    @contextmanager
    def in_use(self, *, alone: bool, waiting: Callable[[], None], stopped: Callable[[], bool]) -> Iterator[None]:
        """Hold the cache: shared with other builds, or ``alone`` to remove files. Raises Interrupted.

        Calls ``waiting`` once if it must wait; ``stopped`` tells whether to give up.
        """
        with disk_errors_explained(self.folder), (self._locks / "in-use").open("w") as lock:
            acquire_lock(lock.fileno(), fcntl.LOCK_EX if alone else fcntl.LOCK_SH, waiting, stopped)
            yield

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """Create a temporary file; it is removed at the end unless ``keep`` named it."""
        with disk_errors_explained(self.folder), locked_temporary_file(self._temporary) as out:
            yield out

    def keep(self, out: BinaryIO, path: Path) -> None:
        """Flush a temporary file to the disk and give it its final name."""
        with disk_errors_explained(self.folder):
            out.flush()
            os.fsync(out.fileno())
            Path(out.name).chmod(0o644)
            Path(out.name).replace(path)

    def adopt(self, file: Path, path: Path) -> None:
        """Flush a complete file of a working folder to the disk and link it to its final name."""
        with disk_errors_explained(self.folder), file.open("rb") as out, self.working_folder() as folder:
            os.fsync(out.fileno())
            file.chmod(0o644)
            (folder / path.name).hardlink_to(file)  # an image may have a layer twice, so the file must stay
            (folder / path.name).replace(path)

    @contextmanager
    def working_folder(self) -> Iterator[Path]:
        """Create an empty folder on the blobs' file system (they can be linked into it); remove it at the end."""
        with disk_errors_explained(self.folder), locked_temporary_folder(self._temporary) as folder:
            yield folder

    @contextmanager
    def building(self, key: Key, stopped: Callable[[], bool]) -> Iterator[None]:
        """Hold the lock to build ``key``; wait for another process that builds it. Raises Interrupted."""
        with disk_errors_explained(self.folder), (self._locks / key.hex).open("w") as lock:
            acquire_lock(lock.fileno(), fcntl.LOCK_EX, lambda: None, stopped)
            yield

    def sweep(self) -> None:
        """Remove the temporary files and folders of dead processes, also in the folder of every download."""
        self.sweep_quickly()
        remove_abandoned(self._files.glob("*/.*"))

    def sweep_quickly(self) -> None:
        """Remove them where that costs nothing; partial downloads stay."""
        remove_abandoned(self._temporary.iterdir())


def remove_same(path: Path, read: os.stat_result) -> bool:
    """Remove the very file that was read; return False if it is gone or was replaced. Raises OSError.

    Of a link to that file, the link is removed.
    """
    try:
        same = os.path.samestat(path.stat(), read)
        if same:
            path.unlink()
    except FileNotFoundError:
        return False
    return same
