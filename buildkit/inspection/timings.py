"""``nox -s timings``: how builds developed, and what their slowest phases are."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildkit.build.planner import Planner, check_stage, open_planner
from buildkit.cli.options import Parser, positive
from buildkit.report.columns import Column, print_columns
from buildkit.report.text import format_bytes, format_date, format_seconds
from buildkit.report.view import open_view

_NAMED = 3
_BUILDS = (
    Column(title="started"),
    Column(title="stage"),
    Column(title="seconds", right=True),
    Column(title="layers", right=True),
    *(Column(title=title, right=True, extra=True) for title in ("fetched", "built", "imported", "pushed")),
    Column(title="slowest phases"),
)
_PHASES = (
    Column(title="phase, in all"),
    *(Column(title=title, right=True) for title in ("seconds", "cpu", "read", "written")),
)


def timings(folder: Path, arguments: Sequence[str]) -> None:
    """Print the last builds of a stage, or of all, and what each phase took on the whole.

    Raises DefinitionError and BuildError.
    """
    options = _parse(arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        names = [check_stage(planner.graph, name) for name in options.stages] or list(planner.graph.stages)
        builds = find_builds(planner, names, options.last)
    if options.json:
        sys.stdout.write(json.dumps(builds, indent=2) + "\n")
    elif not builds:
        sys.stdout.write("no build of these stages is on record\n")
    else:
        _print(builds)


def find_builds(planner: Planner, names: Sequence[str], count: int) -> list[dict[str, Any]]:
    """``{"stage", "started", "seconds", "built", "bytes", "timings"}`` of the last builds that did something.

    The latest comes last; ``started`` is in seconds since the epoch, ``built`` a number of layers.
    """
    ledger, project = planner.context.ledger, planner.context.project
    found = [
        {
            "stage": name,
            "started": round(started, 3),
            "seconds": report["seconds"],
            "built": sum(layer["source"] == "built" for layer in report["layers"]),
            "bytes": report["bytes"],
            "timings": report.get("timings", {}),
        }
        for name in names
        for started, report in ledger.builds(name, project.ref(name), count)
    ]
    return sorted(found, key=lambda build: build["started"])[-count:]


def sum_phases(builds: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, float]]]:
    """What each phase took in all of the builds, the longest first."""
    sums: dict[str, dict[str, float]] = {}
    for build in builds:
        for phase, spent in build["timings"].items():
            known = sums.setdefault(phase, dict.fromkeys(spent, 0))
            for what, amount in spent.items():
                known[what] += amount
    return sorted(sums.items(), key=lambda item: -item[1]["seconds"])


def _print(builds: Sequence[dict[str, Any]]) -> None:
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
        *(format_bytes(moved[what]) if moved[what] else "" for what in ("fetched", "built", "imported", "pushed")),
        ", ".join(f"{name} {format_seconds(spent['seconds'])}" for name, spent in longest),
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="nox -s timings --")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="a stage; all of them unless said")
    parser.add_argument("--last", type=positive, default=20, metavar="N", help="so many builds; 20 unless said")
    parser.add_argument("--json", action="store_true", help="print the builds as JSON")
    return parser.parse_args(list(arguments))
