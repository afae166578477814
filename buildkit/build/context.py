"""What realising layers needs at hand: the project, its cache, the fetcher, and what was made so far."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.declare.project import Project
from buildkit.digest import FileHash, Key
from buildkit.errors import BuildError, Interrupted, LostError, disk_trouble
from buildkit.events import Emit, Note, StepProgress
from buildkit.layers.files import read_file
from buildkit.layers.tar.member import Packed
from buildkit.oci.blob import LayerResult
from buildkit.plan.spec import Spec
from buildkit.remote.remote_cache import RemoteCache
from buildkit.store.blobs import Blobs, remove_same
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex
from buildkit.tasks.phase_meter import PhaseMeter
from buildkit.tools.usage import Spent, Usage

if TYPE_CHECKING:
    from concurrent.futures import Future

    from buildkit.build.fetch import Fetcher


_AGAIN = "build again"
_WAITING = {
    True: "waiting until the builds, and what else uses this cache, have ended",
    False: "waiting for `cache gc` or `cache verify`, which has this cache for itself",
}


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a build moved, in bytes, and which layers turned out to be there already."""

    fetched: int = 0
    built: int = 0
    pushed: int = 0
    found: set[Key] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


class BuildContext:
    """One build's surroundings; threads share it."""

    def __init__(self, project: Project, blobs: Blobs, ledger: Ledger, emit: Emit, jobs: int) -> None:
        self.project = project
        self.blobs = blobs
        self.ledger = ledger
        self.emit = emit
        self.jobs = jobs
        self.index = StatIndex(ledger, emit)
        self.stop = threading.Event()
        self.made: dict[Key, LayerResult] = {}
        self.remote: set[Key] = set()  # those of them whose blobs only a shared cache has
        self.fresh: dict[Key, Spec] = {}  # those that were built in this run
        self.tally = Tally()
        self.remote_cache = RemoteCache(emit)
        self.meter = PhaseMeter()
        self.looking: Future[None] | None = None  # what reads native files of layers that nobody has read

    @cached_property
    def fetcher(self) -> Fetcher:
        """Fetches wheels and files; made when the first is wanted."""
        from buildkit.build.fetch import make_fetcher

        return make_fetcher(self.project.folder, self.project.target, self.stop)

    def progress(self, step: str) -> Callable[[int], None]:
        """A function that reports the bytes done of a step, and raises Interrupted once a stop was asked for."""

        def report(done: int) -> None:
            if self.stop.is_set():
                raise Interrupted("interrupted")
            self.emit(StepProgress(step=step, done=done))

        return report

    def get_file(self, what: str, sha256: FileHash, name: str) -> Path:
        """A download or a compiled wheel, its bytes held against ``sha256`` once more: a cache is not a lock.

        Raises LostError for one that was damaged, and removes it, and for one that another process removed.
        """
        path = self.blobs.file_path(sha256, name)
        try:
            found, read = self.index.hash(path)
        except FileNotFoundError:
            raise LostError(f"{what}: the cached {name} is gone", hint=_AGAIN) from None
        if found != sha256:
            remove_same(path, read)  # but not what another process has fetched meanwhile
            raise LostError(f"{what}: the cached {name} was damaged, and is removed", hint=_AGAIN)
        return path

    def read_file(self, what: str, sha256: FileHash, name: str) -> Iterator[bytes]:
        """A download's bytes as they are, for who holds them against their hash; raises LostError if it is gone."""
        try:
            yield from read_file(self.blobs.file_path(sha256, name))
        except FileNotFoundError:
            raise LostError(f"{what}: the cached {name} is gone", hint=_AGAIN) from None

    def get_wheel(self, what: str, key: Key) -> Path:
        """A compiled wheel that was there, likewise; raises LostError."""
        found = self.find_wheel(key)
        if found is None:
            raise LostError(f"{what}: its compiled wheel is gone", hint=_AGAIN)
        return self.get_file(what, found[1], found[0])

    def download(self, sha256: FileHash, path: Path, fetch: Callable[[], None]) -> int | None:
        """Let ``fetch`` bring a file to ``path``, and remember what it took; its bytes, None where it is there by now.

        Another process that fetches the same is awaited. Raises what ``fetch`` does, and Interrupted.
        """
        with self.blobs.building(Key(sha256.hex), self.stop.is_set):
            if path.exists():
                return None
            began = time.monotonic()
            fetch()
            size = path.stat().st_size
            self.count(fetched=size)
            self.ledger.add_download(sha256, path.name, size, time.monotonic() - began)
            return size

    def find_wheel(self, key: Key) -> tuple[str, FileHash] | None:
        """File name and hash of a compiled wheel that is there."""
        known = self.ledger.find_wheel(key)
        return known if known and self.blobs.file_path(known[1], known[0]).exists() else None

    def count_packed(self, packed: Packed) -> None:
        """Note what compressing a layer took: it has a thread of its own."""
        usage = Usage(read=packed.unpacked, written=packed.size)
        self.meter.add("compress", Spent(seconds=packed.busy, usage=usage))

    def count(self, *, fetched: int = 0, built: int = 0, pushed: int = 0) -> None:
        """Add to the tally."""
        with self.tally.lock:
            self.tally.pushed += pushed
            self.tally.fetched += fetched
            self.tally.built += built


def cache_folder() -> Path:
    """``$BUILDKIT_CACHE``, or the user's cache folder by the XDG rules; absolute, for links lead into it.

    Raises BuildError for one that cannot be.
    """
    said = os.environ.get("BUILDKIT_CACHE")
    hint = "say where the cache may be: BUILDKIT_CACHE=/path"
    try:
        folder = (Path(said).expanduser() if said else _user_cache()).absolute()
    except RuntimeError:
        raise BuildError(f"{said}: there is no such home folder", hint=hint) from None
    if ":" in str(folder):  # buildah's word for the end of a mount's source
        raise BuildError(f"{folder}: the cache's path may have no colon", hint=hint)
    return folder


def _user_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("xoe-buildkit", appauthor=False)


@contextmanager
def open_context(project: Project, emit: Emit, jobs: int, *, alone: bool = False) -> Iterator[BuildContext]:
    """Blobs and ledger of the user's cache, with other builds, or ``alone`` to take things away.

    Raises BuildError where the folder cannot be used.
    """
    folder = cache_folder()
    try:
        blobs = Blobs(folder)
    except OSError as error:
        trouble = disk_trouble(error)
        hint = "free some room, or move the cache" if trouble else "say where the cache may be"
        raise BuildError(f"{folder}: {trouble or error.strerror}", hint=f"{hint}: BUILDKIT_CACHE=/path") from error
    with (
        blobs.in_use(alone=alone, waiting=lambda: emit(Note(text=_WAITING[alone])), stopped=lambda: False),
        closing(Ledger(folder / "ledger.sqlite", alone=alone)) as ledger,
    ):
        yield BuildContext(project, blobs, ledger, emit, jobs)
