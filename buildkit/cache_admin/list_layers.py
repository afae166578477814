"""``cache -- ls``: every layer, compiled wheel and download, with what it would cost to have it again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildkit.build.planner import check_stage
from buildkit.cache_admin.inventory import DOWNLOAD, Holding, State, open_holdings, weigh
from buildkit.declare.graph import load_graph
from buildkit.errors import DefinitionError
from buildkit.report.columns import Column, print_columns
from buildkit.report.text import format_age, format_bytes, format_count, format_seconds
from buildkit.report.view import open_view

COLUMNS = (
    Column(title="name"),
    Column(title="kind", extra=True),
    Column(title="size", right=True),
    Column(title="built", right=True, extra=True),
    Column(title="used", right=True),
    Column(title="rebuild", right=True),
    Column(title="times", right=True, extra=True),
    Column(title="needed by"),
)


def ls(folder: Path, *, stage: str | None, kind: str | None, as_json: bool) -> int:
    """Print what there is, the largest first; returns 0. Raises DefinitionError for a stage that never was."""
    with open_view(sys.stderr) as emit, open_holdings(folder, emit) as (_, _, holdings):
        chosen = [one for one in holdings.items if kind in (None, one.kind) and _is_of(one, stage)]
    if stage is not None and not chosen:
        _check_known(folder, stage)
    chosen.sort(key=lambda one: (-one.size, one.name, -one.used))
    if as_json:
        listed = [describe(one) for one in chosen]
        sys.stdout.write(json.dumps({"things": listed, "size": weigh(chosen)}, indent=2) + "\n")
        return 0
    now = time.time()
    print_columns(COLUMNS, [_row(one, now) for one in chosen], sys.stdout)
    sys.stdout.write(render_total(chosen) + "\n")
    return 0


def describe(one: Holding) -> dict[str, Any]:
    """A thing as JSON; docs/cache.md describes it."""
    named = {"sha256": one.hash} if one.kind == DOWNLOAD else {"key": f"sha256:{one.hash}"}
    return {
        "name": one.name,
        "kind": one.kind,
        **named,
        "state": str(one.state),
        "gone": None if one.gone is None else {"why": one.gone.why, "at": round(one.gone.at, 3)},
        "size": one.size,
        "seconds": round(one.seconds, 3),
        "built": round(one.built, 3),
        "used": round(one.used, 3),
        "times": one.times,
        "needed_by": None if one.stages is None else list(one.stages),
    }


def render_total(chosen: Sequence[Holding]) -> str:
    """The last line: how many things, their bytes, and how many of these are needed."""
    there = [one for one in chosen if one.state is State.PRESENT]
    gone = f", {len(chosen) - len(there)} not here any more" if len(there) < len(chosen) else ""
    needed = weigh(one for one in there if one.stages)
    size = f"{format_bytes(weigh(there))}, of which {format_bytes(needed)} are needed"
    return f"{format_count(len(there), 'thing')}, {size}{gone}"


def say_state(one: Holding, by: str = "needed by ") -> str:
    """By whom it is needed, and why it is not here; ``by`` is empty where a column's head says it."""
    users = "needed by ?" if one.stages is None else by + ", ".join(one.stages) if one.stages else "not needed"
    if one.state is State.PRESENT:
        return users
    return f"{one.gone.why if one.gone else 'missing'}; {users}"


def _row(one: Holding, now: float) -> tuple[str, ...]:
    return (
        one.name,
        one.kind,
        format_bytes(one.size) if one.state is State.PRESENT else "–",
        format_age(now - one.built),
        format_age(now - one.used),
        format_seconds(one.seconds),
        str(one.times) if one.times != 1 else "",
        say_state(one, by=""),
    )


def _is_of(one: Holding, stage: str | None) -> bool:
    """Whether a stage needs it now, or made it once."""
    return stage is None or stage in (one.stages or ()) or one.name.startswith(f"{stage}/")


def _check_known(folder: Path, stage: str) -> None:
    try:
        graph = load_graph(folder)
    except DefinitionError:
        raise DefinitionError(f"nothing in the cache is of a stage `{stage}`") from None
    check_stage(graph, stage)
