"""The session ``timings``: print how long recent builds took, and their slowest phases."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.planner import check_stage, open_planner
from buildkit.cli.options import make_parser, parse_positive
from buildkit.inspection.timings import find_builds, print_builds
from buildkit.report.view import open_view


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Print the last builds of a stage, or of all, and what each phase took in total.

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
        print_builds(builds)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("timings")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="a stage (default: all stages)")
    parser.add_argument("--last", type=parse_positive, default=20, metavar="N", help="show N builds (default: 20)")
    parser.add_argument("--json", action="store_true", help="print the builds as JSON")
    return parser.parse_args(list(arguments))
