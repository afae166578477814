"""What the page shows of a look at all containers: plain values, of bounded size. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from buildkit.monitor.snapshot import ContainerView, Snapshot, snapshot_as_json

MOST_CONTAINERS = 200  # with a thousand, those that need attention, and the busiest
_GOOD_HEALTH = ("", "healthy", "starting")
_ALMOST_FULL = 0.9  # of the memory's limit
_THROTTLED = 0.05  # of the periods


def view_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """Return the JSON of a look, as docs/monitoring.md describes it, with why a container needs ``attention``.

    Those that need it come first, then the busiest; of more than `MOST_CONTAINERS` the others are left out.
    """
    ordered = sorted(snapshot.containers, key=_urgency)[:MOST_CONTAINERS]
    shown = snapshot_as_json(replace(snapshot, containers=tuple(ordered)))
    for view, row in zip(ordered, shown["containers"], strict=True):
        row["attention"] = find_attention(view)
    attention = sum(bool(find_attention(view)) for view in snapshot.containers)
    return {**shown, "total": len(snapshot.containers), "attention": attention}


def find_attention(view: ContainerView) -> list[str]:
    """Return why somebody should look at a container, the worst first: words that the page colours."""
    usage, limit = view.usage, view.limits.memory
    memory = usage.working_set if usage else None
    found = (
        ("oom", bool(view.oom_kills)),
        ("health", view.container.health not in _GOOD_HEALTH),
        ("gone", usage is None),
        ("memory", bool(limit and memory and memory > _ALMOST_FULL * limit)),
        ("throttled", (view.rates.throttled or 0.0) > _THROTTLED),
        ("image", view.expected is False),
    )
    return [word for word, holds in found if holds]


def _urgency(view: ContainerView) -> tuple[bool, float, int, str]:
    memory = (view.usage.memory if view.usage else None) or 0
    return not find_attention(view), -(view.rates.cpu or 0.0), -memory, view.container.name
