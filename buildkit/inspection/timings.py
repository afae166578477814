"""Show how long recent builds took, and their slowest phases."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from buildkit.build.planner import Planner
from buildkit.report.columns import Column, print_columns
from buildkit.report.text import format_bytes, format_date, format_seconds

_NAMED = 3
_BUILDS = (
    Column(title="started"),
    Column(title="stage"),
    Column(title="seconds", right=True),
    Column(title="layers", right=True),
    *(Column(title=title, right=True, extra=True) for title in ("fetched", "built", "delivered", "pushed")),
    Column(title="slowest phases"),
)
_PHASES = (
    Column(title="phase, in all"),
    *(Column(title=title, right=True) for title in ("seconds", "cpu", "read", "written")),
)


def find_builds(planner: Planner, names: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Return the last ``count`` builds that did any work, the latest last.

    Each is ``{"stage", "started", "seconds", "built", "reused", "bytes", "timings"}``; ``started`` is in seconds since
    the epoch, ``built`` and ``reused`` are numbers of layers.
    """
    ledger, project = planner.context.ledger, planner.context.project
    builds = [
        {
            "stage": name,
            "started": round(started, 3),
            "seconds": report["seconds"],
            "built": sum(layer["source"] == "built" for layer in report["layers"]),
            "reused": sum(layer["source"] != "built" for layer in report["layers"]),
            "bytes": report["bytes"],
            "timings": report.get("timings", {}),
        }
        for name in names
        for started, report in ledger.builds.last(name, project.ref(name), count)
    ]
    return sorted(builds, key=lambda build: build["started"])[-count:]


def sum_phases(builds: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, float]]]:
    """Return the total cost of each phase over all builds, the longest first."""
    sums: dict[str, dict[str, float]] = {}
    for build in builds:
        for phase, spent in build["timings"].items():
            totals = sums.setdefault(phase, dict.fromkeys(spent, 0))
            for name, amount in spent.items():
                totals[name] += amount
    return sorted(sums.items(), key=lambda item: -item[1]["seconds"])


def print_builds(builds: Sequence[dict[str, Any]]) -> None:
    """Print a table of the builds, and one of the time that each phase took in all of them."""
    print_columns(_BUILDS, [_row(build) for build in builds], sys.stdout)
    sys.stdout.write("\n")
    rows = [
        (
            name,
            format_seconds(x["seconds"]),
            format_seconds(x["cpu"]),
            format_bytes(x["read"]),
            format_bytes(x["written"]),
        )
        for name, x in sum_phases(builds)
    ]
    print_columns(_PHASES, rows, sys.stdout)


def _row(build: dict[str, Any]) -> tuple[str, ...]:
    moved = build["bytes"]
    longest = sorted(build["timings"].items(), key=lambda item: -item[1]["seconds"])[:_NAMED]
    return (
        format_date(build["started"]),
        build["stage"],
        format_seconds(build["seconds"]),
        str(build["built"]),
        *(format_bytes(moved[kind]) if moved[kind] else "" for kind in ("fetched", "built", "imported", "pushed")),
        ", ".join(f"{name} {format_seconds(spent['seconds'])}" for name, spent in longest),
    )
