"""List every layer, compiled wheel and download, with what restoring it would cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from buildkit.build.planner import check_stage
from buildkit.cache_admin.inventory import Inventory, InventoryItem, ItemState, total_size
from buildkit.declare.graph import load_graph
from buildkit.errors import DefinitionError
from buildkit.report.columns import Column
from buildkit.report.text import format_age, format_bytes, format_count, format_seconds

LIST_COLUMNS = (
    Column(title="name"),
    Column(title="kind", extra=True),
    Column(title="size", right=True),
    Column(title="built", right=True, extra=True),
    Column(title="used", right=True),
    Column(title="rebuild", right=True),
    Column(title="times", right=True, extra=True),
    Column(title="needed by"),
)


def select_items(inventory: Inventory, stage: str | None, kind: str | None) -> list[InventoryItem]:
    """Return the items of a stage and a kind (None: of any), the largest first."""
    items = [item for item in inventory.items if kind in (None, item.kind) and _belongs_to(item, stage)]
    return sorted(items, key=lambda item: (-item.size, item.name, -item.used))


def check_stage_has_items(folder: Path, stage: str) -> None:
    """Raise DefinitionError for a stage that has no items because it does not exist."""
    try:
        graph = load_graph(folder)
    except DefinitionError:
        raise DefinitionError(f"the cache has nothing of a stage `{stage}`") from None
    check_stage(graph, stage)


def item_as_json(item: InventoryItem) -> dict[str, Any]:
    """Return an item as JSON; docs/cache.md describes it."""
    identity = {"key": f"sha256:{item.hash}"} if item.has_key else {"sha256": item.hash}
    return {
        "name": item.name,
        "kind": item.kind,
        **identity,
        "state": str(item.state),
        "gone": None if item.gone is None else {"why": item.gone.why, "at": round(item.gone.at, 3)},
        "size": item.size,
        "seconds": round(item.seconds, 3),
        "built": round(item.built, 3),
        "used": round(item.used, 3),
        "times": item.times,
        "needed_by": None if item.stages is None else list(item.stages),
    }


def items_as_json(items: Iterable[InventoryItem]) -> dict[str, Any]:
    """Return the answer of ``ls`` as JSON."""
    listed = list(items)
    return {"things": [item_as_json(item) for item in listed], "size": total_size(listed)}


def list_row(item: InventoryItem, now: float) -> tuple[str, ...]:
    """Return the row of an item; ``now`` is in seconds since the epoch."""
    return (
        item.name,
        item.kind,
        format_bytes(item.size) if item.state is ItemState.PRESENT else "–",
        format_age(now - item.built),
        format_age(now - item.used),
        format_seconds(item.seconds),
        str(item.times) if item.times != 1 else "",
        format_state(item, by=""),
    )


def format_total(items: Sequence[InventoryItem]) -> str:
    """Return the last line: how many items exist, their bytes, and how many of these are needed."""
    present = [item for item in items if item.state is ItemState.PRESENT]
    missing = f", {len(items) - len(present)} not here any more" if len(present) < len(items) else ""
    needed = total_size(item for item in present if item.stages)
    size = f"{format_bytes(total_size(present))}, of which {format_bytes(needed)} are needed"
    return f"{format_count(len(present), 'item')}, {size}{missing}"


def format_state(item: InventoryItem, by: str = "needed by ") -> str:
    """Format the stages that need an item, and why it is gone; ``by`` is empty if a column title says it already."""
    users = "needed by ?" if item.stages is None else by + ", ".join(item.stages) if item.stages else "not needed"
    if item.state is ItemState.PRESENT:
        return users
    return f"{item.gone.why if item.gone else 'missing'}; {users}"


def _belongs_to(item: InventoryItem, stage: str | None) -> bool:
    """Return whether a stage needs an item now, or built it once."""
    return stage is None or stage in (item.stages or ()) or item.name.startswith(f"{stage}/")
