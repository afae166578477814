"""Leases on what a build creates outside the cache: taken before it exists, released when it is gone.

A lease is an empty file ``boxes/NAME``, locked while its holder lives, so that a later build can tell what a killed one
left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from buildkit.lazy_dataclass import dataclass
from buildkit.store.file_locks import disk_errors_explained, lock_new_path


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease of this process. A program that inherits ``handle`` holds it too, even after this process has ended."""

    path: Path
    handle: int

    def release(self) -> None:
        """Remove the lease, because what it protects is gone."""
        self.path.unlink(missing_ok=True)


class Leases:
    """The leases in a folder, which the first one creates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def hold(self, name: str) -> Iterator[Lease]:
        """Hold a lease on a unique name; unless it is released, it outlives the block, and is swept later."""
        path = self.folder / name
        with disk_errors_explained(self.folder):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            while True:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                try:
                    if not lock_new_path(handle, path):
                        continue
                    yield Lease(path, handle)
                    return
                finally:
                    os.close(handle)

    def sweep(self, remove: Callable[[Sequence[str]], Container[str]]) -> None:
        """Call ``remove`` with the names that dead builds held, and drop the leases of those that it returns."""
        with ExitStack() as stack:
            dead = [path for path in self.folder.glob("*") if _lock_if_dead(path, stack)]
            removed = remove([path.name for path in dead]) if dead else ()
            for path in dead:
                if path.name in removed:
                    path.unlink(missing_ok=True)


def _lock_if_dead(path: Path, stack: ExitStack) -> bool:
    """Return whether no process holds a lease; if so, hold its lock until the end of the stack."""
    with contextlib.suppress(OSError):  # another user's, or swept by another build
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        stack.callback(os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
