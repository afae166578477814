"""Files that are read while they are downloaded."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO


class NotArrivedError(Exception):
    """What was read is not the file, or no more of it comes."""


class ArrivingFile:
    """The bytes of a file, as ``read`` of a complete one gives them. Its end is found once the file is verified."""

    def __init__(self, file: BinaryIO, wait: Callable[[int], int]) -> None:
        self._file = file
        self._wait = wait
        self._at = 0

    def read(self, size: int = sys.maxsize, /) -> bytes:
        """Return the next bytes, fewer than ``size`` only before the end; raises NotArrivedError."""
        count = min(size, self._wait(self._at + size) - self._at)
        data = self._file.read(count)
        if len(data) < count:
            raise NotArrivedError  # it was cut just now
        self._at += count
        return data


class ArrivingFiles:
    """A manifest and files that one thread downloads; another may read them meanwhile.

    A file that is begun anew is not read any further, nor opened again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._manifest = b""
        self._come: dict[Path, int] = {}
        self._complete: set[Path] = set()
        self._anew: set[Path] = set()
        self._ended = False
        self._reading = 0

    # of the thread that downloads

    def begin(self, manifest: bytes) -> None:
        """Say what is downloaded."""
        with self._changed:
            self._manifest = manifest
            self._changed.notify_all()

    def report(self, path: Path, come: int) -> None:
        """Say how many bytes a file has; fewer than before if it begins anew."""
        with self._changed:
            if come < self._come.get(path, 0):
                self._anew.add(path)
            self._come[path] = come
            self._changed.notify_all()

    def complete(self, path: Path) -> None:
        """Say that a file is complete and verified."""
        with self._changed:
            self._complete.add(path)
            self._changed.notify_all()

    def end(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def withdraw(self) -> None:
        """Let nothing be read any longer, as the download has failed; return when no file is open."""
        with self._changed:
            self._complete.clear()
            self._ended = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._reading)

    # of the thread that reads

    def manifest(self) -> bytes:
        """Return the manifest, once it is known; raises NotArrivedError."""
        with self._changed:
            self._changed.wait_for(lambda: self._manifest or self._ended)
            if not self._manifest:
                raise NotArrivedError
            return self._manifest

    @contextmanager
    def open(self, path: Path) -> Iterator[ArrivingFile]:
        """Open a file, once some of it has come; raises NotArrivedError."""
        with self._changed:
            self._reading += 1
        try:
            self._wait(path, 1)
            with path.open("rb", buffering=0) as file:
                yield ArrivingFile(file, partial(self._wait, path))
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify_all()

    def _wait(self, path: Path, wanted: int) -> int:
        """Wait for ``wanted`` bytes or the end, and return how many there are."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._is_ready(path, wanted))
            if path in self._anew or (self._ended and path not in self._complete):
                raise NotArrivedError
            return self._come.get(path, 0)

    def _is_ready(self, path: Path, wanted: int) -> bool:
        return path in self._anew or path in self._complete or self._come.get(path, 0) >= wanted
