"""The session ``derive``: make the derived models of the models files, and lock those that pass their gates."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.planner import open_planner
from buildkit.cli.options import add_jobs_argument, make_parser, parse_positive
from buildkit.cli.tracing import traced
from buildkit.errors import BuildError
from buildkit.plan.derive_report import describe_report
from buildkit.report.view import open_view
from buildkit.resolve.derive import DeriveOutcome, DeriveSession, find_books


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Derive models, and print what became of each; raises DefinitionError, and BuildError for a failed gate."""
    options = _parse(arguments)
    outcomes: list[DeriveOutcome] = []
    try:
        with (
            open_view(sys.stderr) as emit,
            traced(folder, "derive", (), emit) as recorder,
            open_planner(folder, emit) as planner,
        ):
            planner.context.meter.recorder = recorder
            session = DeriveSession(planner, jobs=options.jobs, seconds=options.seconds, again=options.again)
            outcomes.extend(session.derive(find_books(planner), options.model, check=options.check))
    finally:
        _print(outcomes, as_json=options.json)
    stale = [outcome.name for outcome in outcomes if outcome.state == "stale"]
    if stale:
        raise BuildError(f"to derive: {', '.join(stale)}", hint="run: nox -s derive")


def _print(outcomes: Sequence[DeriveOutcome], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps([outcome_as_json(one) for one in outcomes], indent=2) + "\n")
        return
    for one in outcomes:
        found = f": {describe_report(one.report)}" if one.report else ""
        sys.stdout.write(f"{one.name}: {one.state}{found}\n")


def outcome_as_json(outcome: DeriveOutcome) -> dict[str, object]:
    """Return the fields that docs/models.md describes."""
    files = outcome.model.files if outcome.model else ()
    return {
        "name": outcome.name,
        "state": outcome.state,
        "files": [{"path": file.path, "sha256": file.sha256.hex, "size": file.size} for file in files],
        "report": outcome.report.as_json() if outcome.report else None,
    }


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("derive")
    parser.add_argument("model", nargs="*", metavar="MODEL", help="derived models (default: all that are not current)")
    parser.add_argument("--again", action="store_true", help="derive the named models although they are current")
    parser.add_argument("--check", action="store_true", help="make nothing; fail if a model is not current")
    parser.add_argument("--json", action="store_true", help="print files and figures as JSON")
    add_seconds_argument(parser)
    add_jobs_argument(parser)
    return parser.parse_args(list(arguments))


def add_seconds_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--seconds``."""
    parser.add_argument(
        "--seconds", type=parse_positive, default=3, metavar="N", help="how long calls are timed (default: 3)"
    )
