"""Add up the sizes of a cache by stage and by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from buildkit.cache_admin.inventory import DOWNLOAD, WHEEL, Inventory, InventoryItem, ItemState, total_size
from buildkit.cache_admin.needed_keys import Needed
from buildkit.cache_admin.store_garbage import list_trees
from buildkit.cache_admin.stored_images import Leftovers
from buildkit.imagestore.image_store import ImageStore
from buildkit.report.columns import Column
from buildkit.report.text import format_bytes, format_count, format_seconds

Table = tuple[tuple[Column, ...], list[tuple[str, ...]]]

_OTHERS = {
    "temporaries": "temporary files",
    "orphans": "blobs of no known layer",
    "ledger": "ledger",
    "other": "other files",
}


def usage_as_json(
    inventory: Inventory, needed: Needed | None, leftovers: Leftovers, store: ImageStore | None = None
) -> dict[str, Any]:
    """Return the sums, in bytes, as JSON; docs/cache.md describes them."""
    existing = [item for item in inventory.items if item.files]
    stages = sorted({stage for key in needed.specs for stage in needed.layers[key]}) if needed else []
    kinds = sorted({item.kind for item in existing})
    folder = inventory.cache_folder
    return {
        "stages": {stage: _stage_usage(stage, inventory.items, needed) for stage in stages if needed},
        "not_needed": total_size(existing) - total_size(i for i in existing if i.stages or i.stages is None),
        "kinds": {kind: _kind_usage([item for item in existing if item.kind == kind]) for kind in kinds},
        "shared": _shared_size(existing),
        "temporaries": sum(file.size for file in folder.temporaries),
        "orphans": sum(file.size for file in inventory.orphans),
        "ledger": folder.ledger,
        "other": folder.other + sum(file.size for file in folder.locks),
        "size": folder.size,
        "storage": {"images": len(leftovers.images), "containers": len(leftovers.containers)},
        "image_store": None if store is None else _store_usage(store),
    }


def _store_usage(store: ImageStore) -> dict[str, Any]:
    images, trees = store.images(), list_trees(store)
    return {
        "folder": str(store.folder),
        "layers": len(trees),
        "size": sum(trees.values()),
        "images": [{"id": image.id, "names": list(image.names)} for image in images],
    }


def stage_table(usage: dict[str, Any]) -> Table:
    """Return columns and rows of the sums by stage."""
    titles = ("layers", "not here", "size", "downloads", "for it alone")
    columns = (Column(title="stage"), *(Column(title=title, right=True) for title in titles))
    rows = [
        (
            stage,
            str(sums["layers"]),
            str(sums["missing"] or ""),
            *(format_bytes(sums[key]) for key in ("size", "downloads", "alone")),
        )
        for stage, sums in usage["stages"].items()
    ]
    return columns, [*rows, ("no stage", "", "", format_bytes(usage["not_needed"]), "", "")]


def kind_table(usage: dict[str, Any]) -> Table:
    """Return columns and rows of the sums by kind."""
    titles = ("things", "size", "needed", "rebuild")
    columns = (Column(title="kind"), *(Column(title=title, right=True) for title in titles))
    rows: list[tuple[str, ...]] = [
        (
            kind,
            str(sums["things"]),
            format_bytes(sums["size"]),
            format_bytes(sums["needed"]),
            format_seconds(sums["seconds"]),
        )
        for kind, sums in usage["kinds"].items()
    ]
    return columns, rows


def other_lines(usage: dict[str, Any]) -> Iterator[str]:
    """Yield lines about files that belong to no item, shared blobs, and leftovers in local storage."""
    for key, title in _OTHERS.items():
        if usage[key]:
            yield f"{title}: {format_bytes(usage[key])}"
    if usage["shared"]:
        yield f"of the blobs, {format_bytes(usage['shared'])} belong to several layers"
    if store := usage["image_store"]:
        layers, images = format_count(store["layers"], "layer"), format_count(len(store["images"]), "image")
        yield f"{format_bytes(store['size'])} in {store['folder']}: {layers} as files, of which {images} are made"
        yield from (f"  {name}" for image in store["images"] for name in image["names"])
    storage = usage["storage"]
    if storage["images"] or storage["containers"]:
        images = format_count(storage["images"], "image")
        containers = format_count(storage["containers"], "container")
        yield f"in local storage, not counted here: {images} and {containers} that gc removes"


def _stage_usage(stage: str, items: Sequence[InventoryItem], needed: Needed) -> dict[str, Any]:
    """Return the sums of a stage: ``missing`` layers must be built; ``alone`` are bytes that no other stage needs."""
    count = sum(stage in needed.layers[key] for key in needed.specs)
    own = [item for item in items if stage in (item.stages or ())]
    layers = [item for item in own if item.kind not in (DOWNLOAD, WHEEL)]
    others = [item for item in items if item.stages and item.stages != (stage,)]
    return {
        "layers": count,
        "missing": count - sum(item.state is ItemState.PRESENT for item in layers),
        "size": total_size(layers),
        "downloads": total_size(item for item in own if item.kind in (DOWNLOAD, WHEEL)),
        "alone": total_size([*own, *others]) - total_size(others),
    }


def _kind_usage(items: Sequence[InventoryItem]) -> dict[str, Any]:
    return {
        "things": len(items),
        "size": total_size(items),
        "needed": total_size(item for item in items if item.stages),
        "seconds": round(sum(item.seconds for item in items), 3),
    }


def _shared_size(items: Sequence[InventoryItem]) -> int:
    owners = Counter(path for item in items for path in item.files)
    sizes = {path: size for item in items for path, size in item.files.items()}
    return sum(sizes[path] for path, count in owners.items() if count > 1)
