"""What a cache holds, put together from its ledger, its files and what the stages need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from buildkit.build.context import BuildContext, open_context
from buildkit.cache_admin.needed_keys import Names, Needed, ask_needed
from buildkit.declare.project import load_project
from buildkit.digest import FileHash, Key
from buildkit.events import Emit
from buildkit.plan.forecast import SLOW, Pace, measure, measure_kinds
from buildkit.store.cache_files import Found, Inventory, take_inventory
from buildkit.store.eviction import CacheItem
from buildkit.store.ledger import Ledger
from buildkit.store.tables.downloads import RecordedDownload
from buildkit.store.tables.layers import RecordedLayer
from buildkit.store.tables.tombstones import Tombstone
from buildkit.store.tables.wheels import RecordedWheel

DOWNLOAD, WHEEL = "download", "wheel"


class State(StrEnum):
    """Whether something is there."""

    PRESENT = "present"
    GONE = "gone"  # and it is known why: evicted, found damaged, or only in a registry
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A layer, a compiled wheel or a download.

    ``paths`` are its files below the cache's folder, ``files`` those that are there, with their bytes. ``hash`` is the
    key's, a download's its own. ``seconds`` it would take to have it again. ``built`` and ``used`` are since the epoch,
    ``stages`` those that need it (None where nobody knows).
    """

    kind: str
    name: str
    hash: str
    paths: tuple[str, ...]
    files: Mapping[str, int]
    seconds: float
    built: float
    used: float
    times: int
    stages: Names | None
    state: State
    gone: Tombstone | None = None

    @property
    def size(self) -> int:
        """Bytes on the disk, shared or not."""
        return sum(self.files.values())

    @property
    def id(self) -> str:
        """What tells it from all others."""
        return f"{self.kind} {self.hash} {self.name}"

    def as_thing(self) -> CacheItem:
        """What gc decides on."""
        return CacheItem(id=self.id, files=self.files, seconds=self.seconds, used=self.used, needed=bool(self.stages))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Everything that is known or there; ``orphans`` are blobs that no row speaks of."""

    items: tuple[Holding, ...]
    orphans: tuple[Found, ...]
    inventory: Inventory

    @property
    def fixed(self) -> int:
        """Bytes of what gc never drops: the ledger, and what others put there."""
        return self.inventory.ledger + self.inventory.other


def take_stock(ledger: Ledger, folder: Path, needed: Needed | None) -> Holdings:
    """Put together what is known and what is there, in the cache's ``folder``.

    In this order: a row is written when its blobs are there, so that a build under way makes nothing look missing.
    """
    stones = ledger.tombstones.all()
    layers, wheels, downloads = ledger.layers.all(), ledger.wheels.all(), ledger.downloads.all()
    inventory = take_inventory(folder)
    on_disk = {found.hex: found for found in inventory.blobs}
    claimed = {blob.digest.hex: blob.size for row in layers for blob in row.blobs}
    paces = measure_kinds((row.kind, row.unpacked, row.seconds) for row in layers if row.seconds > 0)
    items = [_layer(row, on_disk, needed, stones, paces) for row in layers]
    items += _files(inventory.files, wheels, downloads, needed, stones)
    orphans = tuple(found for found in inventory.blobs if claimed.get(found.hex) != found.size)
    return Holdings(items=tuple(items), orphans=orphans, inventory=inventory)


def _layer(
    row: RecordedLayer,
    on_disk: Mapping[str, Found],
    needed: Needed | None,
    stones: Mapping[Key, Tombstone],
    paces: Mapping[str, Pace],
) -> Holding:
    found = [on_disk.get(blob.digest.hex) for blob in row.blobs]
    there = [f for f, blob in zip(found, row.blobs, strict=True) if f is not None and f.size == blob.size]
    present = len(there) == len(row.blobs)
    gone = None if present else stones.get(row.key)
    pace = paces.get(row.kind)
    return Holding(
        kind=row.kind,
        name=row.name,
        hash=row.key.hex,
        paths=tuple(f"sha256/{blob.digest.hex}" for blob in row.blobs),
        files={f.path: f.size for f in there},
        seconds=row.seconds or (pace.takes(row.unpacked) if pace else 0.0),
        built=row.built,
        used=row.used,
        times=row.times,
        stages=None if needed is None else needed.layers.get(row.key, ()),
        state=_state(gone, present=present),
        gone=gone,
    )


def _state(gone: Tombstone | None, *, present: bool) -> State:
    if present:
        return State.PRESENT
    return State.MISSING if gone is None else State.GONE


def _files(
    files: Iterable[Found],
    wheels: Sequence[RecordedWheel],
    downloads: Sequence[RecordedDownload],
    needed: Needed | None,
    stones: Mapping[Key, Tombstone],
) -> Iterator[Holding]:
    """Compiled wheels, also those that are gone, and downloads that are there."""
    there = {(found.hex, found.name): found for found in files}
    for row in wheels:
        yield _wheel(row, there.get((row.sha256.hex, row.file)), needed, stones)
    compiled = {(row.sha256.hex, row.file) for row in wheels}
    known = {row.sha256.hex: row for row in downloads}
    pace = measure((row.size, row.seconds) for row in downloads)
    for place, found in there.items():
        if place not in compiled:
            yield _download(found, known.get(found.hex), needed, pace)


def _wheel(row: RecordedWheel, found: Found | None, needed: Needed | None, stones: Mapping[Key, Tombstone]) -> Holding:
    gone = None if found else stones.get(row.key)
    return Holding(
        kind=WHEEL,
        name=row.file,
        hash=row.key.hex,
        paths=(f"files/{row.sha256.hex}/{row.file}",),
        files={found.path: found.size} if found else {},
        seconds=row.seconds,
        built=row.built,
        used=row.used,
        times=1,
        stages=None if needed is None else needed.layers.get(row.key, ()),
        state=_state(gone, present=found is not None),
        gone=gone,
    )


def _download(found: Found, row: RecordedDownload | None, needed: Needed | None, pace: Pace | None) -> Holding:
    known = row is not None and row.size == found.size
    guess = pace.takes(found.size) if pace else found.size * SLOW
    return Holding(
        kind=DOWNLOAD,
        name=found.name,
        hash=found.hex,
        paths=(found.path,),
        files={found.path: found.size},
        seconds=row.seconds if row is not None and known else guess,
        built=row.fetched if row is not None else found.mtime,
        used=row.used if row is not None else found.mtime,
        times=1,
        stages=None if needed is None else needed.downloads.get(FileHash(found.hex), ()),
        state=State.PRESENT,
    )


@contextmanager
def open_holdings(folder: Path, emit: Emit) -> Iterator[tuple[BuildContext, Needed | None, Holdings]]:
    """The user's cache as the project in ``folder`` sees it; builds may go on meanwhile.

    Raises DefinitionError for wrong settings, BuildError for a cache that cannot be used.
    """
    with open_context(load_project(folder), emit) as context:
        needed = ask_needed(context, folder, emit)
        yield context, needed, take_stock(context.ledger, context.blobs.folder, needed)


def weigh(holdings: Iterable[Holding]) -> int:
    """Bytes on the disk of all files that these have; one that several have counts once."""
    return sum({path: size for one in holdings for path, size in one.files.items()}.values())
