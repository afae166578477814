"""The cache's files that layers are packed from: downloads, and wheels that were compiled here.

A wheel of a local folder is not copied. Its file in the cache is a link to it, made after its hash was found to be the
lock's. Such a file may change or vanish at any time; what reads it says so with `InputFiles.unchanged`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.declare.project import Project
from buildkit.digest import FileHash, Key
from buildkit.errors import BuildError, LostError
from buildkit.layers.files import read_file
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.pins import Artifact
from buildkit.store.blobs import Blobs, remove_same
from buildkit.store.ledger import Ledger
from buildkit.store.private_folder import may_others_change
from buildkit.store.stat_index import StatIndex, stat_key
from buildkit.store.tables.files import StatKey

if TYPE_CHECKING:
    from buildkit.build.fetch import Fetcher
    from buildkit.build.tally import Tally
    from buildkit.tools.registry import RegistryClient

_AGAIN = "build again"


@dataclass(frozen=True, kw_only=True)
class InputFiles:
    """Finds, verifies and fetches the files of one project; threads share it.

    In messages a file is called by ``what`` it is for, such as ``numpy 2.1``.
    """

    project: Project
    blobs: Blobs
    ledger: Ledger
    stat_index: StatIndex
    tally: Tally
    stop: threading.Event

    @cached_property
    def fetcher(self) -> Fetcher:
        """Fetches from indexes and URLs; created when the first file is fetched."""
        from buildkit.build.fetch import make_fetcher

        return make_fetcher(self.project.folder, self.project.target, self.stop)

    @cached_property
    def registries(self) -> RegistryClient:
        """Fetches from registries; created when the first file of one is fetched."""
        from buildkit.tools.registry import RegistryClient

        return RegistryClient(self.stop)

    def get_file(self, what: str, sha256: FileHash, name: str) -> Path:
        """Return the path of a download or compiled wheel after verifying its bytes against ``sha256``.

        Raises LostError if the file is damaged, which also removes it, or if another process has removed it. Of a link
        to a local file that changed or cannot be read any more, the link is removed.
        """
        path = self.blobs.file_path(sha256, name)
        self._verify(what, sha256, path)
        return path

    def _verify(self, what: str, sha256: FileHash, path: Path) -> StatKey:
        """Return the stat under which a file has the right bytes; raises LostError as ``get_file`` does."""
        place = _find_target(path)  # the user's own file, which is never touched
        called = place or f"the cached {path.name}"
        try:
            actual, status = self.stat_index.hash(path)
        except OSError as error:
            if place is None and not isinstance(error, FileNotFoundError):
                raise
            if place is not None:
                path.unlink(missing_ok=True)
            why = "is gone" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            raise LostError(f"{what}: {called} {why}", hint=_AGAIN) from None
        if actual != sha256:
            remove_same(path, status)  # but not what another process has fetched meanwhile
            why = "was damaged, and is removed" if place is None else "has other bytes by now, and is not used"
            raise LostError(f"{what}: {called} {why}", hint=_AGAIN)
        return stat_key(status)

    @contextmanager
    def unchanged(self, paths: Iterable[Path]) -> Iterator[Callable[[], None]]:
        """Raise LostError at the end of the block if a local file changed that one of ``paths`` is a link to.

        Or if a folder above it was moved meanwhile, even away and back: another file may have been read at its path.
        So what was read in the block is what ``get_file`` has verified before it. An error in the block is such a loss,
        too, if a file changed. Yields a function to look before the end: before what was made of the files is kept.
        """
        before = {path: (_find_key(path), _find_folders(path)) for path in paths if path.is_symlink()}

        def check() -> None:
            for path, (key, folders) in before.items():
                same = self._verify(path.name, FileHash(path.parent.name), path) == key
                if not same or any(map(_was_moved, folders, _find_folders(path))):
                    raise LostError(f"{path.name}: {_find_target(path)} changed while it was read", hint=_AGAIN)

        try:
            yield check
        except (BuildError, OSError) as error:
            if not isinstance(error, LostError):
                check()
            raise
        check()

    def fetch(self, artifact: Artifact, path: Path, progress: Callable[[int], None]) -> None:
        """Fetch a wheel or an sdist to its ``path`` in the cache; raises as `Fetcher.fetch` does.

        A wheel that is a local file is not copied: ``path`` becomes a link to it.
        """
        link = partial(self._link, artifact.sha256, path) if artifact.is_wheel and artifact.sha256 else None
        self.fetcher.fetch(artifact, path, progress=progress, link=link)

    def _link(self, sha256: FileHash, path: Path, source: Path) -> bool:
        """Make ``path`` a link to a local file; False if it has other bytes, or must be copied.

        What another user could change must be: that need not show in its stat (a mapping), which is looked at later.
        """
        try:
            real = source.resolve(strict=True)
            if real.is_relative_to(self.blobs.folder.resolve()) or may_others_change(real):
                return False
            if self.stat_index.hash(real)[0] != sha256:
                return False
            path.unlink(missing_ok=True)  # another link, to a file that is gone
            path.symlink_to(real)
        except (OSError, RuntimeError):  # of a loop of links
            return False
        return True

    def read_file(self, what: str, sha256: FileHash, name: str) -> Iterator[bytes]:
        """Yield a download's bytes without verifying them; the caller does. Raises LostError if the file is gone."""
        try:
            yield from read_file(self.blobs.file_path(sha256, name))
        except FileNotFoundError:
            raise LostError(f"{what}: the cached {name} is gone", hint=_AGAIN) from None

    def find_wheel(self, key: Key) -> tuple[str, FileHash] | None:
        """Return file name and hash of a compiled wheel if the cache has it."""
        wheel = self.ledger.wheels.find(key)
        return wheel if wheel and self.blobs.has_file(wheel[1], wheel[0]) else None

    def get_wheel(self, what: str, key: Key) -> Path:
        """Return the path of a compiled wheel as ``get_file`` does; raises LostError if it is gone or damaged."""
        wheel = self.find_wheel(key)
        if wheel is None:
            raise LostError(f"{what}: its compiled wheel is gone", hint=_AGAIN)
        return self.get_file(what, wheel[1], wheel[0])

    def download(self, sha256: FileHash, path: Path, fetch: Callable[[], None]) -> int | None:
        """Call ``fetch`` to bring a file to ``path``, record its cost, and return its size; None if it is there by now.

        Waits for another process that fetches the same file. Raises what ``fetch`` does, and Interrupted.
        """
        with self.blobs.building(Key(sha256.hex), self.stop.is_set):
            if self.blobs.has_file(sha256, path.name):
                return None
            began = time.monotonic()
            fetch()
            size = path.stat().st_size
            self.tally.add(fetched=size)
            self.ledger.downloads.add(sha256, path.name, size, time.monotonic() - began)
            return size


def _find_target(path: Path) -> Path | None:
    """Return what a link leads to, None for a file of the cache itself."""
    try:
        return path.readlink()
    except OSError:
        return None


def _find_key(path: Path) -> StatKey | None:
    try:
        return stat_key(path.stat())
    except OSError:
        return None


def _find_folders(path: Path) -> list[os.stat_result]:
    """Return the stats of the folders above what a link leads to, the nearest first; fewer if one is gone."""
    with suppress(OSError):
        return [folder.stat() for folder in path.readlink().parents]
    return []


def _was_moved(before: os.stat_result, now: os.stat_result) -> bool:
    """Return whether another folder has the path, or this one was renamed: that sets the ctime alone, entries both."""
    if (before.st_dev, before.st_ino) != (now.st_dev, now.st_ino):
        return True
    return before.st_ctime_ns != now.st_ctime_ns and before.st_mtime_ns == now.st_mtime_ns
