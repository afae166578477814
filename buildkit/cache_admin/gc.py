"""Collect garbage: delete what no stage needs, from the cache and from local storage.

It holds the cache alone, so no build runs: half-written files and locks belong to builds that died, and nothing is
deleted that a build has planned with. A kill at any point does no harm: a tombstone has no meaning while the layer's
blobs exist, and a row without blobs is never trusted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.build.context import BuildContext, open_context
from buildkit.build.root_folders import sweep_root_folders
from buildkit.cache_admin.inventory import (
    BLOB,
    DOWNLOAD,
    Inventory,
    InventoryItem,
    ItemState,
    take_inventory,
    total_size,
)
from buildkit.cache_admin.needed_keys import Needed, find_needed
from buildkit.cache_admin.store_garbage import PREFIX, StoreGarbage, find_store_garbage, remove_store_garbage
from buildkit.cache_admin.stored_images import Leftovers, find_leftovers, remove_leftovers, select_removed
from buildkit.declare.graph import load_graph
from buildkit.declare.project import Project, load_project
from buildkit.digest import DiffId, FileHash, Key
from buildkit.errors import BuildError
from buildkit.events import Emit, Note
from buildkit.imagestore.image_store import ImageStore
from buildkit.imagestore.store_folder import find_image_store
from buildkit.report.text import format_bytes
from buildkit.store.cache_files import CacheFile, remove
from buildkit.store.eviction import CacheItem, Eviction, EvictionRules, choose_evictions
from buildkit.store.maintenance import LedgerMaintenance, RetainedRows

KEEP_DAYS = 14.0
WHY = "evicted by gc"
_DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GcOptions:
    """The options that decide what gc deletes.

    Without ``max_size``: everything that is not needed and was not used for ``keep_days`` (default: 14). With it: only
    as much as brings the cache down to this size, regardless of age unless ``keep_days`` is set.
    """

    max_size: int | None = None
    keep_days: float | None = None
    dry_run: bool = False

    def rules(self, now: float) -> EvictionRules:
        """Return the same as rules for the decision."""
        days = self.keep_days if self.keep_days is not None or self.max_size is not None else KEEP_DAYS
        return EvictionRules(now=now, keep=None if days is None else days * _DAY, limit=self.max_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class GcPlan:
    """The decision of gc: what it deletes, or has deleted.

    ``items`` of the cache, the cheapest to restore first; ``trash`` (temporary files, blobs of no layer); unused
    ``locks``; ``leftovers`` in local storage and ``garbage`` of the image store. ``needed`` are the bytes that stay
    because stages need them.
    """

    items: tuple[InventoryItem, ...]
    eviction: Eviction
    trash: tuple[CacheFile, ...]
    locks: tuple[CacheFile, ...]
    leftovers: Leftovers
    garbage: StoreGarbage
    needed: int

    @property
    def freed(self) -> int:
        """Bytes of the cache."""
        return self.eviction.freed + sum(file.size for file in self.trash)

    def item_sizes(self) -> list[int]:
        """Return the bytes that each item frees; a file that several share counts with the first."""
        remaining = set(self.eviction.files)
        sizes = []
        for item in self.items:
            sizes.append(sum(size for path, size in item.files.items() if path in remaining))
            remaining -= item.files.keys()
        return sizes


def collect_garbage(folder: Path, options: GcOptions, emit: Emit, done: list[GcPlan]) -> None:
    """Decide what to delete, and delete it unless it is a dry run.

    The plan, or the part of it that was carried out before an error, is appended to ``done``. Raises DefinitionError if
    the stages cannot be read, BuildError, or Interrupted.
    """
    project = load_project(folder)
    _check_stages(project, folder, emit)
    with open_context(project, emit, alone=True) as context:
        needed = find_needed(context, load_graph(folder), emit)
        now = time.time()
        collected = _Collected(context=context, store=find_image_store(), needed=needed)
        plan = _make_plan(collected, options.rules(now), emit)
        if options.dry_run:
            done.append(plan)
        else:
            _carry_out(collected, plan, now, done)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Collected:
    """What garbage is collected from."""

    context: BuildContext
    store: ImageStore | None
    needed: Needed

    def take_inventory(self) -> Inventory:
        return take_inventory(self.context.ledger, self.context.blobs.folder, self.needed, self.store)

    def has(self, path: str) -> bool:
        if path.startswith(PREFIX):
            return self.store is not None and self.store.has_tree(DiffId(path.removeprefix(PREFIX)))
        return os.path.lexists(self.context.blobs.folder / path)

    def remove(self, garbage: StoreGarbage, paths: Iterable[str]) -> None:
        ordered = [*paths]
        remove(self.context.blobs.folder, (path for path in ordered if not path.startswith(PREFIX)))
        trees = [path for path in ordered if path.startswith(PREFIX)]
        if self.store is not None and (trees or garbage.images or garbage.names or garbage.distrusted):
            remove_store_garbage(self.store, garbage, trees)


def _check_stages(project: Project, folder: Path, emit: Emit) -> None:
    """Find mistakes, and hash files, while builds may still run."""
    try:
        with open_context(project, emit) as context:
            find_needed(context, load_graph(folder), lambda _event: None)
    except BuildError:
        return  # on a full disk the ledger opens only for a process that is alone; other errors are raised then


def _make_plan(collected: _Collected, rules: EvictionRules, emit: Emit) -> GcPlan:
    context, needed, store = collected.context, collected.needed, collected.store
    inventory = collected.take_inventory()
    name = context.project.name
    garbage = find_store_garbage(store, name, needed.refs, emit) if store else StoreGarbage()
    future, layers = LedgerMaintenance(context.ledger).count_used_in_future(rules.now)
    if 2 * future > layers:
        text = "most layers were used in the future: is this host's clock right? they count as new"
        emit(Note(text=text, warning=True))
    # without a limit, what is needed stays as it is
    present = [i for item in inventory.items for i in (item.split_copies() if rules.limit is not None else (item,))]
    items = {item.id: item for item in present if item.files}
    candidates = [item.as_cache_item() for item in items.values()]
    sizes = {path: size for item in present for path, size in item.files.items() if path in garbage.used}
    used = CacheItem(id="in use", files=sizes, seconds=0.0, used=rules.now, needed=True)
    eviction = choose_evictions([*candidates, used], rules, inventory.permanent_size)
    plan = GcPlan(
        items=tuple(items[item.id] for item in eviction.items),
        eviction=eviction,
        trash=(*inventory.cache_folder.temporaries, *inventory.orphans),
        locks=inventory.cache_folder.locks,
        leftovers=find_leftovers(name, needed.refs, context.blobs.leases, emit),
        garbage=garbage,
        needed=total_size(item for item in present if item.stages),
    )
    if rules.limit is not None and eviction.left > rules.limit:
        emit(Note(text=_format_excess(rules, plan), warning=True))
    return plan


def _carry_out(collected: _Collected, plan: GcPlan, now: float, done: list[GcPlan]) -> None:
    """Delete, and append what was deleted to ``done``: all of it, or, on an error, whatever is gone."""
    removed: set[str] = set()
    try:
        _delete(collected, plan, now, removed)
    except BaseException:
        part = _select_deleted(collected, plan, removed)
        if part.freed or part.leftovers != Leftovers() or part.garbage.images:
            done.append(part)
        raise
    done.append(replace(plan, leftovers=select_removed(plan.leftovers, removed)))


def _select_deleted(collected: _Collected, plan: GcPlan, removed: Collection[str]) -> GcPlan:
    """Return the part of a plan that is gone; ``removed`` are names and ids in local storage."""
    eviction = plan.eviction
    paths = tuple(path for path in eviction.files if not collected.has(path))
    sizes = {path: size for item in plan.items for path, size in item.files.items()}
    trash = tuple(file for file in plan.trash if not collected.has(file.path))
    freed = sum(sizes[path] for path in paths)
    kept = eviction.freed - freed + sum(file.size for file in set(plan.trash) - set(trash))
    return replace(
        plan,
        items=tuple(item for item in plan.items if not item.files.keys().isdisjoint(paths)),
        eviction=replace(eviction, files=paths, freed=freed, left=eviction.left + kept),
        trash=trash,
        leftovers=select_removed(plan.leftovers, removed),
        garbage=_select_removed_images(collected.store, plan.garbage),
    )


def _select_removed_images(store: ImageStore | None, garbage: StoreGarbage) -> StoreGarbage:
    left = {} if store is None else {image.id: image.names for image in store.images()}
    names = {name for own in left.values() for name in own}
    return StoreGarbage(
        images=tuple(image for image in garbage.images if image.id not in left),
        names=tuple(name for name in garbage.names if name not in names),
    )


def _delete(collected: _Collected, plan: GcPlan, now: float, removed: set[str]) -> None:
    context, maintenance = collected.context, LedgerMaintenance(collected.context.ledger)
    remove(context.blobs.folder, (file.path for file in (*plan.trash, *plan.locks)))
    sweep_root_folders(context.blobs.leases)
    if collected.store:
        collected.store.sweep()
    evicted = [(Key(item.hash), item.name) for item in plan.items if item.has_key and item.kind != BLOB]
    try:
        maintenance.record_tombstones(evicted, WHY)
    except BuildError:  # a full disk has room for tombstones only once the files are gone
        collected.remove(plan.garbage, plan.eviction.files)
        maintenance.record_tombstones(evicted, WHY)
    collected.remove(plan.garbage, plan.eviction.files)
    maintenance.prune(_retained_rows(collected.take_inventory(), collected.needed), now)
    remove_leftovers(plan.leftovers, context.blobs.leases, removed)


def _retained_rows(left: Inventory, needed: Needed) -> RetainedRows:
    present = [item for item in left.items if item.state is ItemState.PRESENT]
    return RetainedRows(
        present={Key(item.hash) for item in present if item.has_key},
        needed=needed.layers.keys(),
        checked=needed.checked,
        downloads={FileHash(item.hash) for item in present if item.kind == DOWNLOAD},
        files=needed.files,
    )


def _format_excess(rules: EvictionRules, plan: GcPlan) -> str:
    recent = f" or was used in the last {rules.keep / _DAY:g} days" if rules.keep else ""
    return (
        f"{format_bytes(plan.eviction.left)} are left, more than {format_bytes(rules.limit or 0)}: "
        f"what remains is needed by the stages ({format_bytes(plan.needed)}){recent}"
    )
