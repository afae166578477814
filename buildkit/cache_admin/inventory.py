"""The inventory of a cache: its ledger, its files and what the stages need, combined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from buildkit.build.context import BuildContext, open_context
from buildkit.cache_admin.needed_keys import Names, Needed, ask_needed
from buildkit.cache_admin.store_garbage import list_trees, tree_path
from buildkit.declare.project import load_project
from buildkit.digest import FileHash, Key
from buildkit.events import Emit
from buildkit.imagestore.image_store import ImageStore
from buildkit.imagestore.store_folder import find_image_store
from buildkit.plan.forecast import SLOW, Pace, measure, measure_kinds
from buildkit.plan.spec import Kind
from buildkit.store.cache_files import CacheFile, CacheFolder, scan_cache_folder
from buildkit.store.eviction import CacheItem
from buildkit.store.ledger import Ledger
from buildkit.store.tables.downloads import RecordedDownload
from buildkit.store.tables.layers import RecordedLayer
from buildkit.store.tables.tombstones import Tombstone
from buildkit.store.tables.wheels import RecordedWheel

DOWNLOAD, WHEEL, TREE, BLOB = "download", "wheel", "tree", "blob"
_COMPRESSION = 2e-8  # seconds a byte of the blob


class ItemState(StrEnum):
    """The state of an item's files."""

    PRESENT = "present"
    GONE = "gone"  # for a known reason: evicted, found damaged, or only in a registry
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryItem:
    """A layer, a compiled wheel, a download, a tree of no known layer, or a blob beside the tree of its layer.

    ``paths`` are its files below the cache's folder, and trees of the image store (``trees/HEX``); ``files`` are those
    that exist, with their bytes. ``hash`` is the key, or a download's or tree's own hash. ``seconds`` is how long
    restoring it would take, ``times`` how often it was built. ``built`` and ``used`` are seconds since the epoch,
    ``stages`` those that need it (None if that is unknown).
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
    state: ItemState
    gone: Tombstone | None = None

    @property
    def size(self) -> int:
        """Bytes on the disk, shared or not."""
        return sum(self.files.values())

    @property
    def id(self) -> str:
        """A unique name."""
        return f"{self.kind} {self.hash} {self.name}"

    @property
    def has_key(self) -> bool:
        """Whether its hash is a key."""
        return self.kind not in (DOWNLOAD, TREE)

    def split_copies(self) -> tuple[InventoryItem, ...]:
        """Return the item without blobs that could be made again from its trees, and these by themselves.

        The blobs of a registry's image stay with it: compressed again, they would be others than its manifest names.
        """
        pairs = zip(self.paths[::2], self.paths[1::2], strict=False)
        copies = {blob: self.files[blob] for blob, tree in pairs if {blob, tree} <= self.files.keys()}
        if self.kind == Kind.IMAGE or not copies:
            return (self,)
        rest = {path: size for path, size in self.files.items() if path not in copies}
        seconds = sum(copies.values()) * _COMPRESSION
        return replace(self, files=rest), replace(self, kind=BLOB, files=copies, seconds=seconds, stages=())

    def as_cache_item(self) -> CacheItem:
        """Return it as gc's decision sees it."""
        seconds = 0.0 if self.kind == BLOB else self.seconds  # the first to go: nothing is lost
        return CacheItem(id=self.id, files=self.files, seconds=seconds, used=self.used, needed=bool(self.stages))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything that the ledger knows or the folder holds; ``orphans`` are blobs without a row."""

    items: tuple[InventoryItem, ...]
    orphans: tuple[CacheFile, ...]
    cache_folder: CacheFolder

    @property
    def permanent_size(self) -> int:
        """Bytes that gc never deletes: the ledger, and files that buildkit did not create."""
        return self.cache_folder.ledger + self.cache_folder.other


def take_inventory(ledger: Ledger, folder: Path, needed: Needed | None, store: ImageStore | None = None) -> Inventory:
    """Combine the ledger with the files in the cache's ``folder``, and with the trees of the image store.

    The ledger is read first: a row is written after its blobs, so that nothing looks missing while a build runs.
    """
    tombstones = ledger.tombstones.all()
    layers, wheels, downloads = ledger.layers.all(), ledger.wheels.all(), ledger.downloads.all()
    cache_folder = scan_cache_folder(folder)
    on_disk = {found.hex: found for found in cache_folder.blobs}
    trees = list_trees(store)
    expected_sizes = {blob.digest.hex: blob.size for row in layers for blob in row.blobs}
    paces = measure_kinds((row.kind, row.unpacked, row.seconds) for row in layers if row.seconds > 0)
    items = [_layer(row, on_disk, trees, needed, tombstones, paces) for row in layers]
    items += _trees(store, trees.keys() - {path for item in items for path in item.paths}, trees, needed)
    items += _files(cache_folder.files, wheels, downloads, needed, tombstones)
    orphans = tuple(found for found in cache_folder.blobs if expected_sizes.get(found.hex) != found.size)
    return Inventory(items=tuple(items), orphans=orphans, cache_folder=cache_folder)


def _layer(
    row: RecordedLayer,
    on_disk: Mapping[str, CacheFile],
    trees: Mapping[str, int],
    needed: Needed | None,
    tombstones: Mapping[Key, Tombstone],
    paces: Mapping[str, Pace],
) -> InventoryItem:
    files: dict[str, int] = {}
    present = True
    for blob in row.blobs:
        found, tree = on_disk.get(blob.digest.hex), tree_path(blob.diff_id)
        has_blob = found is not None and found.size == blob.size
        files |= {found.path: found.size} if found is not None and has_blob else {}
        files |= {tree: trees[tree]} if tree in trees else {}
        present = present and (has_blob or tree in trees)
    tombstone = None if present else tombstones.get(row.key)
    pace = paces.get(row.kind)
    return InventoryItem(
        kind=row.kind,
        name=row.name,
        hash=row.key.hex,
        paths=tuple(path for blob in row.blobs for path in (f"sha256/{blob.digest.hex}", tree_path(blob.diff_id))),
        files=files,
        seconds=row.seconds or (pace.takes(row.unpacked) if pace else 0.0),
        built=row.built,
        used=row.used,
        times=row.times,
        stages=None if needed is None else needed.layers.get(row.key, ()),
        state=_state(tombstone, present=present),
        gone=tombstone,
    )


def _trees(
    store: ImageStore | None, paths: Iterable[str], sizes: Mapping[str, int], needed: Needed | None
) -> Iterator[InventoryItem]:
    """Yield the trees of layers that this cache does not know: another cache's, or of a lost ledger."""
    written = {} if store is None else {tree_path(diff_id): at for diff_id, at in store.trees.all().items()}
    for path in sorted(paths):
        yield InventoryItem(
            kind=TREE,
            name=path.rpartition("/")[2][:12],
            hash=path.rpartition("/")[2],
            paths=(path,),
            files={path: sizes[path]},
            seconds=sizes[path] * SLOW,
            built=written.get(path, 0.0),
            used=written.get(path, 0.0),
            times=1,
            stages=None if needed is None else (),
            state=ItemState.PRESENT,
        )


def _state(tombstone: Tombstone | None, *, present: bool) -> ItemState:
    if present:
        return ItemState.PRESENT
    return ItemState.MISSING if tombstone is None else ItemState.GONE


def _files(
    files: Iterable[CacheFile],
    wheels: Sequence[RecordedWheel],
    downloads: Sequence[RecordedDownload],
    needed: Needed | None,
    tombstones: Mapping[Key, Tombstone],
) -> Iterator[InventoryItem]:
    """Yield all recorded compiled wheels, and the downloads that exist."""
    existing = {(found.hex, found.name): found for found in files}
    for row in wheels:
        yield _wheel(row, existing.get((row.sha256.hex, row.file)), needed, tombstones)
    compiled = {(row.sha256.hex, row.file) for row in wheels}
    known = {row.sha256.hex: row for row in downloads}
    pace = measure((row.size, row.seconds) for row in downloads)
    for place, found in existing.items():
        if place not in compiled:
            yield _download(found, known.get(found.hex), needed, pace)


def _wheel(
    row: RecordedWheel, found: CacheFile | None, needed: Needed | None, tombstones: Mapping[Key, Tombstone]
) -> InventoryItem:
    tombstone = None if found else tombstones.get(row.key)
    return InventoryItem(
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
        state=_state(tombstone, present=found is not None),
        gone=tombstone,
    )


def _download(
    found: CacheFile, row: RecordedDownload | None, needed: Needed | None, pace: Pace | None
) -> InventoryItem:
    known = row is not None and row.size == found.size
    guess = pace.takes(found.size) if pace else found.size * SLOW
    return InventoryItem(
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
        state=ItemState.PRESENT,
    )


@contextmanager
def open_inventory(folder: Path, emit: Emit) -> Iterator[tuple[BuildContext, Needed | None, Inventory]]:
    """Take the inventory of the user's cache for the project in ``folder``; builds may run meanwhile.

    Raises DefinitionError for wrong settings, BuildError for a cache that cannot be used.
    """
    with open_context(load_project(folder), emit) as context:
        needed = ask_needed(context, folder, emit)
        yield context, needed, take_inventory(context.ledger, context.blobs.folder, needed, find_image_store())


def total_size(items: Iterable[InventoryItem]) -> int:
    """Return the bytes of all files that the items have; a shared file counts once."""
    return sum({path: size for item in items for path, size in item.files.items()}.values())
