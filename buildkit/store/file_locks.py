"""Temporary files and folders that their creator locks (flock(2)), so that those of dead processes can be removed.

A lock ends with the process that holds it, whatever happened: neither process ids nor clocks are needed.
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
from pathlib import Path
from typing import BinaryIO, cast

from buildkit.errors import BuildError, Interrupted, describe_disk_error

_POLL_SECONDS = 0.05


def lock_new_path(handle: int, path: Path) -> bool:
    """Lock a file or folder that was just created; return False if it was removed before. Raises OSError.

    Until it is locked it looks abandoned: the caller then creates another one.
    """
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def locked_temporary_file(folder: Path, prefix: str = "", suffix: str = "") -> Iterator[BinaryIO]:
    """Create a locked file, and remove it at the end unless it was renamed. Raises OSError."""
    while True:
        path = folder / f"{prefix}{os.getpid()}-{os.urandom(6).hex()}{suffix}"
        with path.open("x+b") as out:
            if not lock_new_path(out.fileno(), path):
                continue
            try:
                yield cast("BinaryIO", out)
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def locked_temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a locked folder, and remove it at the end. Raises OSError."""
    import shutil

    while True:
        folder = parent / f"dir-{os.urandom(6).hex()}"
        folder.mkdir(0o700)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another process has removed it as abandoned
            continue
        try:
            if not lock_new_path(handle, folder):
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return
        finally:
            os.close(handle)


def remove_folder(path: Path) -> None:
    """Remove a folder as far as that is possible."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(paths: Iterable[Path], remove_folder: Callable[[Path], None] = remove_folder) -> None:
    """Remove files and folders that no process has locked, as far as that is possible."""
    for path in paths:
        with contextlib.suppress(OSError):  # another user's, or another process is removing it
            _remove_unlocked(path, remove_folder)


def _remove_unlocked(path: Path, remove_folder: Callable[[Path], None]) -> None:
    """Remove a path while its lock is held, so that a process that has just created it creates another one."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            remove_folder(path)
        else:
            path.unlink()
    finally:
        os.close(handle)


def acquire_lock(handle: int, kind: int, waiting: Callable[[], None], stopped: Callable[[], bool]) -> None:
    """Wait for a lock without blocking signals; call ``waiting`` once if it must wait. Raises Interrupted.

    ``kind`` is ``LOCK_EX`` or ``LOCK_SH``; ``stopped`` tells whether to give up.
    """
    announced = False
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return
        if not announced:
            waiting()
            announced = True
        if stopped():
            raise Interrupted("interrupted")
        time.sleep(_POLL_SECONDS)


@contextmanager
def disk_errors_explained(folder: Path, variable: str = "BUILDKIT_CACHE") -> Iterator[None]:
    """Raise BuildError for a full disk, or a folder in which nothing can be written; other errors pass.

    ``variable`` moves the folder.
    """
    try:
        yield
    except OSError as error:
        hint = f"use another folder: {variable}=/path"
        if error.errno in (errno.EACCES, errno.EPERM) and str(error.filename).startswith(str(folder)):
            raise BuildError(f"{error.filename}: {error.strerror}", hint=hint) from error
        if not (why := describe_disk_error(error)):
            raise
        if error.errno != errno.EROFS:
            hint = f"free some room, or {hint}; nothing half-written is kept"
        raise BuildError(f"{folder}: {why}", hint=hint) from error
