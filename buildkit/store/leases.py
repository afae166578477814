"""Notes of what a build makes outside the cache: written before it is made, struck off when it is gone again.

A note is an empty file ``boxes/NAME``, locked while its writer lives, so that a later build can tell what a killed one
left behind without trusting process ids or clocks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from buildkit.store.blobs import claim, explained


@dataclass(frozen=True, slots=True)
class Lease:
    """A note of ours. A program that inherits ``handle`` holds it too, and so outlives us without being forgotten."""

    path: Path
    handle: int

    def release(self) -> None:
        """What was noted is gone."""
        self.path.unlink(missing_ok=True)


class Leases:
    """The notes in a folder; the folder is made when something is noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def hold(self, name: str) -> Iterator[Lease]:
        """Note a name that nobody else uses; unless it is struck off, the note outlives the block, and is swept."""
        path = self.folder / name
        with explained(self.folder):
            self.folder.mkdir(exist_ok=True)
            while True:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                try:
                    if not claim(handle, path):
                        continue
                    yield Lease(path, handle)
                    return
                finally:
                    os.close(handle)

    def sweep(self, remove: Callable[[Sequence[str]], Container[str]]) -> None:
        """Have what dead builds noted removed: ``remove`` is given the names, and answers which are there no more."""
        with ExitStack() as stack:
            dead = [path for path in self.folder.glob("*") if _is_dead(path, stack)]
            gone = remove([path.name for path in dead]) if dead else ()
            for path in dead:
                if path.name in gone:
                    path.unlink(missing_ok=True)


def _is_dead(path: Path, stack: ExitStack) -> bool:
    """Whether nobody holds a note; then we do, until the end of the stack."""
    with contextlib.suppress(OSError):  # another user's, or swept by another build
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        stack.callback(os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
