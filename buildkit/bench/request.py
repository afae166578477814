"""The options of ``nox -s bench-build``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from buildkit.bench.participant import Goal
from buildkit.bench.peers import PEERS
from buildkit.bench.scenarios import NAMES
from buildkit.cli.options import Parser, positive
from buildkit.errors import DefinitionError

_OF_RACES = ("workload", "stage", "scenario", "until", "no-push", "peer", "compare", "fail-over")
_FAIL_OVER = 0.15
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%?")


def parse_request(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options. Raises DefinitionError."""
    parser = Parser(prog="nox -s bench-build --")
    parser.add_argument(
        "--workload",
        metavar="WORKLOAD",
        help="reference (this project; so it is unless said), heavy, or a project's folder",
    )
    parser.add_argument("--stage", metavar="STAGE", help="which to build, if several ship")
    parser.add_argument(
        "--scenario", nargs="+", choices=NAMES, metavar="NAME", help=f"only these of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--until", nargs="+", choices=tuple(Goal), type=Goal, metavar="GOAL", help=f"only these of {', '.join(Goal)}"
    )
    parser.add_argument("--no-push", action="store_true", help="until runnable alone")
    parser.add_argument("--peer", nargs="*", choices=PEERS, metavar="NAME", help=f"only these of {', '.join(PEERS)}")
    parser.add_argument("--repeat", type=positive, default=3, metavar="N", help="repetitions; 3 unless said")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for results and pictures; reports/bench unless said"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--scale", action="store_true", help="how planning grows: 10 to 400 wheels, 1 to 64 GB of models"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="fail where we became slower than in these results"
    )
    parser.add_argument("--fail-over", type=_share, metavar="PERCENT", help="by so much; 15%% unless said")
    options = parser.parse_args(list(arguments))
    _check(options)
    options.workload, options.stage = options.workload or "reference", options.stage or ""
    options.fail_over = _FAIL_OVER if options.fail_over is None else options.fail_over
    if options.no_push:
        options.until = [Goal.RUNNABLE]
    return options


def _check(options: argparse.Namespace) -> None:
    if options.scale:
        given = [f"--{name}" for name in _OF_RACES if getattr(options, name.replace("-", "_")) not in (None, False)]
        if given:
            raise DefinitionError(
                f"--scale races nothing, but {', '.join(given)} is about a race", hint="say that without --scale"
            )
    if options.fail_over is not None and options.compare is None:
        raise DefinitionError(
            "--fail-over says by how much --compare may find us slower", hint="say --compare OLD.json, too"
        )


def _share(text: str) -> float:
    found = _PERCENT.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be a percentage, not {text!r}")
    return float(found[1]) / 100
