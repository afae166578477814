"""A copy of a file that shares its blocks with the original, where the file system can: ioctl_ficlone(2).

The kernel writes what a mapping has changed before it shares blocks, and marks the mapped pages as read-only. So
whatever changes the original afterwards shows in its times, and what is read meanwhile is what the clone holds if the
times stayed the same.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from buildkit.errors import source_changed
from buildkit.store.stat_index import is_settled, stat_key

SMALLEST = 1 << 20
"""Bytes of a file that is worth a clone."""
_FICLONE = 0x40049409  # linux/fs.h
_CHUNK = 1 << 20


class FileClone:
    """The clone at ``path`` of a file that stays open, to be read; a context manager. `find_clone` makes it."""

    def __init__(self, path: Path, original: Path, file: int) -> None:
        self.path = path
        self._original = original
        self._file = file
        self._status = os.fstat(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    @property
    def is_settled(self) -> bool:
        """Whether a change of the original from now on gives it other times."""
        return is_settled(self._status, time.time_ns())

    def read(self) -> Iterator[bytes]:
        """Yield the content of the original, whose blocks the kernel is likelier to have in memory."""
        at = 0
        while chunk := os.pread(self._file, _CHUNK, at):
            yield chunk
            at += len(chunk)

    def verify(self) -> None:
        """Raise MismatchError if the original changed since it was cloned, so that what was read may be another."""
        if stat_key(os.fstat(self._file)) != stat_key(self._status):
            raise source_changed(self._original)


def find_clone(original: Path, path: Path) -> FileClone | None:
    """Clone a file to the new file ``path``; None if it cannot be cloned there, or was written to just now.

    An error is no failure: whoever copies the file instead meets it again.
    """
    with ExitStack() as undo, suppress(OSError):
        file = os.open(original, os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, file)
        clone = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        undo.callback(path.unlink)
        try:
            fcntl.ioctl(clone, _FICLONE, file)
        finally:
            os.close(clone)
        found = FileClone(path, original, file)
        if found.is_settled:
            undo.pop_all()
            return found
    return None
