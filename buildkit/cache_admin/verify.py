"""Verify a cache: read every file again, delete what is damaged, and report inconsistencies.

The cache is shared with builds meanwhile, for reading takes long; a build whose blob is deleted here plans again. A
running build may not have written the row of a blob yet, so unknown blobs are looked for only if no build runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from buildkit.build.context import BuildContext
from buildkit.cache_admin.inventory import InventoryItem, ItemState, take_inventory
from buildkit.cache_admin.verify_trees import TREES_STEP, TreeVerifier
from buildkit.digest import Key
from buildkit.errors import Interrupted
from buildkit.events import Emit, StepFinished, StepProgress, StepStarted
from buildkit.imagestore.store_folder import find_image_store
from buildkit.report.text import format_bytes, format_count, format_seconds
from buildkit.store.blobs import Blobs
from buildkit.store.damaged_rows import DamagedRow
from buildkit.store.integrity import CacheFileVerifier
from buildkit.store.ledger import Ledger
from buildkit.store.maintenance import LedgerMaintenance

DAMAGED, MISSING = "damaged, found by verify", "missing, found by verify"
_STEP = "blobs and downloads"
_REBUILT = "the next build that needs it makes it again"
_GC = "gc removes it"
_REPLACED = "the next build that needs it replaces it"
_DELIVERED = "the next build of it delivers it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFlaw:
    """An inconsistency: the name of the item, what is wrong, and what happens ``then``."""

    name: str
    what: str
    then: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheVerification:
    """The result: ``files`` of ``of`` files and trees were read, ``size`` bytes in ``seconds``, and what is wrong."""

    files: int
    of: int
    size: int
    seconds: float
    flaws: tuple[CacheFlaw, ...]

    @property
    def complete(self) -> bool:
        """Whether everything was read."""
        return self.files == self.of


def verify_cache(context: BuildContext, emit: Emit, results: list[CacheVerification]) -> None:
    """Read all files and delete damaged ones; append the result, also when interrupted. Raises Interrupted."""
    began, maintenance = time.monotonic(), LedgerMaintenance(context.ledger)
    flaws = _verify_ledger(context.ledger, maintenance)
    store = find_image_store()
    inventory = take_inventory(context.ledger, context.blobs.folder, None, store)
    files = (*inventory.cache_folder.blobs, *inventory.cache_folder.files)
    trees = TreeVerifier(store, lambda done: emit(StepProgress(step=TREES_STEP, done=done)), context.stop)
    total = sum(_length(context.blobs.folder / file.path) for file in files)
    emit(StepStarted(step=_STEP, phase="verify", total=total))
    verifier = CacheFileVerifier(
        context.blobs.folder, lambda done: emit(StepProgress(step=_STEP, done=done)), context.stop
    )
    try:
        verifier.verify(files)
        emit(StepFinished(step=_STEP, phase="verify", seconds=time.monotonic() - began, size=verifier.size))
        trees.verify(emit)
    finally:
        found = verifier.damaged | trees.damaged
        damaged = [item for item in inventory.items if found.keys() & set(item.paths)]
        missing = [item for item in inventory.items if item.state is ItemState.MISSING and item not in damaged]
        flaws += _file_flaws(context.blobs, verifier.damaged, damaged)
        flaws += [
            CacheFlaw(name=_owners(path, damaged), what=f"its tree: {what}", then=_REPLACED)
            for path, what in sorted(trees.damaged.items())
        ]
        flaws += [
            CacheFlaw(name=image, what="its records in the image store are damaged", then=f"removed; {_DELIVERED}")
            for image in trees.images
        ]
        flaws += [CacheFlaw(name=item.name, what="it is not in the cache", then=_REBUILT) for item in missing]
        results.append(
            CacheVerification(
                files=verifier.files + trees.count,
                of=len(files) + trees.of,
                size=verifier.size + trees.size,
                seconds=round(time.monotonic() - began, 3),
                flaws=tuple(flaws),
            )
        )
        maintenance.record_tombstones(_keys_and_names(damaged), DAMAGED)  # the next build can say why it builds
        maintenance.record_tombstones(_keys_and_names(missing), MISSING)


def _length(path: Path) -> int:
    """Return the bytes that are read of a file, which may be a link; 0 if it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _verify_ledger(ledger: Ledger, maintenance: LedgerMaintenance) -> list[CacheFlaw]:
    mend = "remove ledger.sqlite: layers are built again"
    flaws = [CacheFlaw(name="ledger", what=text, then=mend) for text in ledger.database.find_corruption()]
    return flaws or [_row_flaw(row) for row in maintenance.delete_damaged_rows()]


def _row_flaw(row: DamagedRow) -> CacheFlaw:
    if row.table == "layers":
        return CacheFlaw(name=row.name, what="its row in the ledger is damaged", then=f"removed; {_REBUILT}")
    name = f"a row of `{row.table}` in the ledger"
    return CacheFlaw(name=name, what="it is damaged", then="removed; the next build that needs it recreates it")


def _file_flaws(blobs: Blobs, damaged: Mapping[str, str], items: Sequence[InventoryItem]) -> Iterator[CacheFlaw]:
    for path, what in sorted(damaged.items()):
        then = "left as it is" if os.path.lexists(blobs.folder / path) else f"removed; {_REBUILT}"
        yield CacheFlaw(name=_owners(path, items), what=what, then=then)


def find_unknown_files(blobs: Blobs) -> Iterator[CacheFlaw]:
    """Yield blobs and temporary files that belong to nothing, if no build runs."""
    try:
        with (
            blobs.in_use(alone=True, waiting=lambda: None, stopped=lambda: True),  # does not wait
            closing(Ledger(blobs.folder / "ledger.sqlite", alone=True)) as ledger,
        ):
            inventory = take_inventory(ledger, blobs.folder, None)
    except Interrupted:
        yield CacheFlaw(name="blobs of no layer", what="not looked for: the cache is in use", then="verify again later")
        return
    for file in inventory.orphans:
        yield CacheFlaw(name=file.path[:19], what=f"a blob of no layer ({format_bytes(file.size)})", then=_GC)
    for file in inventory.cache_folder.temporaries:
        what = "a link to a file that is gone" if file.broken else "left by a build that died"
        yield CacheFlaw(name=file.path, what=f"{what} ({format_bytes(file.size)})", then=_GC)


def verification_as_json(result: CacheVerification, notes: Sequence[CacheFlaw]) -> dict[str, Any]:
    """Return the answer as JSON; docs/cache.md describes it."""
    return {
        "ok": result.complete and not result.flaws,
        "complete": result.complete,
        "files": result.files,
        "size": result.size,
        "seconds": result.seconds,
        "flaws": [asdict(flaw) for flaw in result.flaws],
        "notes": [asdict(note) for note in notes],
    }


def format_verification(result: CacheVerification) -> str:
    """Return the last line: what was read, and how much is wrong."""
    count = "" if result.complete else f"{result.files} of "
    files = f"{count}{format_count(result.of, 'file')}"
    read = f"{files} read ({format_bytes(result.size)}) in {format_seconds(result.seconds)}"
    wrong = f"{len(result.flaws)} damaged or missing" if result.flaws else "nothing is damaged or missing"
    return f"{read}: {wrong}"


def _keys_and_names(items: Iterable[InventoryItem]) -> list[tuple[Key, str]]:
    return [(Key(item.hash), item.name) for item in items if item.has_key]


def _owners(path: str, items: Iterable[InventoryItem]) -> str:
    """Return the names of the items that a file belongs to, or else its path."""
    return ", ".join(sorted({item.name for item in items if path in item.paths})) or path
