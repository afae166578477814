"""``cache -- du``: how much room what takes."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from buildkit.cache_admin.inventory import DOWNLOAD, WHEEL, Holding, Holdings, State, open_holdings, weigh
from buildkit.cache_admin.needed_keys import Needed
from buildkit.cache_admin.stored_images import Leftovers, find_leftovers
from buildkit.report.columns import Column, print_columns
from buildkit.report.text import format_bytes, format_count, format_seconds
from buildkit.report.view import open_view

_OTHERS = {
    "temporaries": "temporary files",
    "orphans": "blobs of no known layer",
    "ledger": "ledger",
    "other": "other files",
}


def du(folder: Path, *, as_json: bool) -> int:
    """Print sums by stage and by kind; returns 0."""
    with open_view(sys.stderr) as emit, open_holdings(folder, emit) as (context, needed, holdings):
        left = find_leftovers(context.project.name, needed.refs, context.blobs.notes, emit) if needed else Leftovers()
    value = add_up(holdings, needed) | {"storage": {"images": len(left.images), "containers": len(left.containers)}}
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
        return 0
    _print_stages(value)
    _print_kinds(value)
    sys.stdout.write(
        "\n".join([*_say_rest(value, left), f"{format_bytes(value['size'])} in {context.blobs.folder}"]) + "\n"
    )
    return 0


def add_up(holdings: Holdings, needed: Needed | None) -> dict[str, Any]:
    """The sums, in bytes, as JSON; docs/cache.md describes them."""
    there = [one for one in holdings.items if one.files]
    stages = sorted({stage for key in needed.specs for stage in needed.layers[key]}) if needed else []
    kinds = sorted({one.kind for one in there})
    inventory = holdings.inventory
    return {
        "stages": {stage: _of_stage(stage, holdings.items, needed) for stage in stages if needed},
        "not_needed": weigh(there) - weigh(one for one in there if one.stages or one.stages is None),
        "kinds": {kind: _of_kind([one for one in there if one.kind == kind]) for kind in kinds},
        "shared": _shared(there),
        "temporaries": sum(found.size for found in inventory.temporaries),
        "orphans": sum(found.size for found in holdings.orphans),
        "ledger": inventory.ledger,
        "other": inventory.other + sum(found.size for found in inventory.locks),
        "size": inventory.size,
    }


def _say_rest(value: dict[str, Any], left: Leftovers) -> Iterator[str]:
    for key, words in _OTHERS.items():
        if value[key]:
            yield f"{words}: {format_bytes(value[key])}"
    if value["shared"]:
        yield f"of the blobs, {format_bytes(value['shared'])} belong to several layers"
    if left.images or left.containers:
        images, containers = format_count(len(left.images), "image"), format_count(len(left.containers), "container")
        said = f"{images} and {containers} that gc removes"
        yield f"in local storage, not counted here: {said}"


def _of_stage(stage: str, items: Sequence[Holding], needed: Needed) -> dict[str, Any]:
    """``missing`` layers must be made, or made again; ``alone`` are bytes that would not be needed without it."""
    wanted = sum(stage in needed.layers[key] for key in needed.specs)
    mine = [one for one in items if stage in (one.stages or ())]
    layers = [one for one in mine if one.kind not in (DOWNLOAD, WHEEL)]
    others = [one for one in items if one.stages and one.stages != (stage,)]
    return {
        "layers": wanted,
        "missing": wanted - sum(one.state is State.PRESENT for one in layers),
        "size": weigh(layers),
        "downloads": weigh(one for one in mine if one.kind in (DOWNLOAD, WHEEL)),
        "alone": weigh([*mine, *others]) - weigh(others),
    }


def _of_kind(items: Sequence[Holding]) -> dict[str, Any]:
    return {
        "things": len(items),
        "size": weigh(items),
        "needed": weigh(one for one in items if one.stages),
        "seconds": round(sum(one.seconds for one in items), 3),
    }


def _shared(items: Sequence[Holding]) -> int:
    owners = Counter(path for one in items for path in one.files)
    sizes = {path: size for one in items for path, size in one.files.items()}
    return sum(sizes[path] for path, count in owners.items() if count > 1)


def _print_stages(value: dict[str, Any]) -> None:
    titles = ("layers", "not here", "size", "downloads", "for it alone")
    columns = (Column(title="stage"), *(Column(title=title, right=True) for title in titles))
    rows = [
        (
            stage,
            str(s["layers"]),
            str(s["missing"] or ""),
            *(format_bytes(s[key]) for key in ("size", "downloads", "alone")),
        )
        for stage, s in value["stages"].items()
    ]
    print_columns(columns, [*rows, ("no stage", "", "", format_bytes(value["not_needed"]), "", "")], sys.stdout)
    sys.stdout.write("\n")


def _print_kinds(value: dict[str, Any]) -> None:
    titles = ("things", "size", "needed", "rebuild")
    columns = (Column(title="kind"), *(Column(title=title, right=True) for title in titles))
    rows = [
        (kind, str(k["things"]), format_bytes(k["size"]), format_bytes(k["needed"]), format_seconds(k["seconds"]))
        for kind, k in value["kinds"].items()
    ]
    print_columns(columns, rows, sys.stdout)
    if rows:
        sys.stdout.write("\n")
