"""Render what gc deletes, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from buildkit.cache_admin.gc import GcOptions, GcPlan
from buildkit.cache_admin.list_layers import item_as_json
from buildkit.report.columns import Column
from buildkit.report.text import format_age, format_bytes, format_count, format_seconds


def gc_columns(options: GcOptions) -> tuple[Column, ...]:
    """Return the columns of the table."""
    return (
        Column(title="dropped" if not options.dry_run else "to drop"),
        Column(title="kind"),
        Column(title="size", right=True),
        Column(title="rebuild", right=True),
        Column(title="used", right=True),
    )


def gc_rows(plan: GcPlan, now: float) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table; ``now`` is in seconds since the epoch."""
    for item, size in zip(plan.items, plan.item_sizes(), strict=True):
        yield item.name, item.kind, format_bytes(size), format_seconds(item.seconds), format_age(now - item.used)
    for file in plan.trash:
        kind = "blob of no layer" if file.path.startswith("sha256/") else "temporary"
        yield file.name[:12], kind, format_bytes(file.size), "", format_age(now - file.mtime)
    for image in plan.leftovers.images:
        name = image.names[0] if image.names else image.id[:12]
        yield name, "image", format_bytes(image.size), "", ""
    for stored in plan.garbage.images:
        yield (stored.names[0] if stored.names else stored.id[:12]), "image", "", "", ""
    for name in (*plan.leftovers.names, *plan.garbage.names):
        yield name, "image name", "", "", ""
    for name in plan.leftovers.containers:
        yield name, "container", "", "", ""


def format_gc_summary(plan: GcPlan, options: GcOptions) -> str:
    """Return the last line: how much was dropped, and how much is left."""
    left = f"{format_bytes(plan.eviction.left)} are left, of which {format_bytes(plan.needed)} are needed"
    return f"{_format_dropped(plan, options)}; {left}"


def _format_dropped(plan: GcPlan, options: GcOptions) -> str:
    leftovers = plan.leftovers
    counts = {
        "item": len(plan.items) + len(plan.trash),
        "image": len(leftovers.images) + len(leftovers.names) + len(plan.garbage.images) + len(plan.garbage.names),
        "container": len(leftovers.containers),
    }
    parts = [format_count(count, noun) for noun, count in counts.items() if count]
    if not parts:
        return "nothing to drop"
    if counts["item"]:
        parts[0] += f" ({format_bytes(plan.freed)})"
    return f"{'would drop' if options.dry_run else 'dropped'} {', '.join(parts)}"


def gc_as_json(plan: GcPlan, options: GcOptions) -> dict[str, Any]:
    """Return the answer as JSON; docs/cache.md describes it."""
    left = plan.eviction.left
    return {
        "dry_run": options.dry_run,
        "dropped": [item_as_json(item) for item in plan.items],
        "trash": [{"path": file.path, "size": file.size} for file in plan.trash],
        "images": [
            *({"id": image.id, "names": list(image.names)} for image in plan.leftovers.images),
            *({"id": image.id, "names": list(image.names)} for image in plan.garbage.images),
        ],
        "names": [*plan.leftovers.names, *plan.garbage.names],
        "containers": list(plan.leftovers.containers),
        "freed": plan.freed,
        "left": left,
        "needed": plan.needed,
        "limit": options.max_size,
        "over": options.max_size is not None and left > options.max_size,
    }
