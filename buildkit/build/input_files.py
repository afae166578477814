"""The cache's files that layers are packed from: downloads, and wheels that were compiled here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.declare.project import Project
from buildkit.digest import FileHash, Key
from buildkit.errors import LostError
from buildkit.layers.files import read_file
from buildkit.lazy_dataclass import dataclass
from buildkit.store.blobs import Blobs, remove_same
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex

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

        Raises LostError if the file is damaged, which also removes it, or if another process has removed it.
        """
        path = self.blobs.file_path(sha256, name)
        try:
            actual, status = self.stat_index.hash(path)
        except FileNotFoundError:
            raise LostError(f"{what}: the cached {name} is gone", hint=_AGAIN) from None
        if actual != sha256:
            remove_same(path, status)  # but not what another process has fetched meanwhile
            raise LostError(f"{what}: the cached {name} was damaged, and is removed", hint=_AGAIN)
        return path

    def read_file(self, what: str, sha256: FileHash, name: str) -> Iterator[bytes]:
        """Yield a download's bytes without verifying them; the caller does. Raises LostError if the file is gone."""
        try:
            yield from read_file(self.blobs.file_path(sha256, name))
        except FileNotFoundError:
            raise LostError(f"{what}: the cached {name} is gone", hint=_AGAIN) from None

    def find_wheel(self, key: Key) -> tuple[str, FileHash] | None:
        """Return file name and hash of a compiled wheel if the cache has it."""
        wheel = self.ledger.wheels.find(key)
        return wheel if wheel and self.blobs.file_path(wheel[1], wheel[0]).exists() else None

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
            if path.exists():
                return None
            began = time.monotonic()
            fetch()
            size = path.stat().st_size
            self.tally.add(fetched=size)
            self.ledger.downloads.add(sha256, path.name, size, time.monotonic() - began)
            return size
