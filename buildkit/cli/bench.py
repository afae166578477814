"""The session ``bench-build``: a race between builders, its results, and a gate against regressions."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.bench.output import compare, judge, print_results, read_results, write_output
from buildkit.bench.participant import Goal
from buildkit.bench.peers import PEERS
from buildkit.bench.request import RaceRequest
from buildkit.bench.results import render_results
from buildkit.bench.scenarios import NAMES
from buildkit.bench.session import run_race, run_scale
from buildkit.cli.options import Parser, make_parser, parse_positive
from buildkit.errors import DefinitionError
from buildkit.report.view import open_view

_OF_RACES = ("workload", "stage", "scenario", "until", "no-push", "peer", "compare", "fail-over", "fill-memory")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%?")


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Race, write and print the results; return 1 if a sample is wrong or ``--compare`` finds us slower, else 0.

    Raises DefinitionError and BuildError.
    """
    options = parse_request(arguments)
    old = read_results(options.compare) if options.compare else None
    where = options.output or folder / "reports/bench"
    with open_view(sys.stderr) as emit:
        results = run_scale(options, emit) if options.scale else run_race(folder, options, old, where, emit)
    write_output(results, where)
    sys.stderr.write(f"results: {where}\n")
    if options.json:
        sys.stdout.write(render_results(results))
    else:
        print_results(results)
    return max(judge(results), compare(old, results, options.fail_over) if old else 0)


def parse_request(arguments: Sequence[str]) -> RaceRequest:
    """Return the request that the arguments make; raises DefinitionError."""
    options = _make_parser().parse_args(list(arguments))
    _check(options)
    return RaceRequest(
        workload=options.workload or "reference",
        stage=options.stage or "",
        scenario=None if options.scenario is None else tuple(options.scenario),
        until=(Goal.RUNNABLE,) if options.no_push else options.until and tuple(options.until),
        peer=None if options.peer is None else tuple(options.peer),
        repeat=options.repeat,
        output=options.output,
        json=options.json,
        scale=options.scale,
        fill_memory=options.fill_memory,
        compare=options.compare,
        **({} if options.fail_over is None else {"fail_over": options.fail_over}),
    )


def _make_parser() -> Parser:
    parser = make_parser("bench-build")
    parser.add_argument("--workload", metavar="WORKLOAD", help="reference (default), heavy, or a project's folder")
    parser.add_argument("--stage", metavar="STAGE", help="the stage to build, if several ship")
    parser.add_argument(
        "--scenario", nargs="+", choices=NAMES, metavar="NAME", help=f"only these of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--until", nargs="+", choices=tuple(Goal), type=Goal, metavar="GOAL", help=f"only these of {', '.join(Goal)}"
    )
    parser.add_argument("--no-push", action="store_true", help="race only until the image is runnable")
    parser.add_argument("--peer", nargs="*", choices=PEERS, metavar="NAME", help=f"only these of {', '.join(PEERS)}")
    parser.add_argument("--repeat", type=parse_positive, default=3, metavar="N", help="repetitions (default: 3)")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for results and pictures (default: reports/bench)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--scale",
        action="store_true",
        help="measure planning of many wheels, gigabytes and files",
    )
    parser.add_argument(
        "--fill-memory", action="store_true", help="keep little memory free, for a virtual machine that lends it away"
    )
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="fail if we are slower than in these results")
    parser.add_argument("--fail-over", type=_share, metavar="PERCENT", help="slower by more than this (default: 15%%)")
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.scale:
        race_options = [
            f"--{name}" for name in _OF_RACES if getattr(options, name.replace("-", "_")) not in (None, False)
        ]
        if race_options:
            raise DefinitionError(
                f"--scale races nothing, but {', '.join(race_options)} is about a race",
                hint="leave it out, or race without --scale",
            )
    if options.fail_over is not None and options.compare is None:
        raise DefinitionError(
            "--fail-over says by how much --compare may find us slower", hint="say --compare OLD.json, too"
        )


def _share(text: str) -> float:
    match = _PERCENT.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(f"must be a percentage, not {text!r}")
    return float(match[1]) / 100
