"""The session ``explain``: print why layers will be built again, or when and why they were built last."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.options import PlannerOptions
from buildkit.build.planner import check_stage, open_planner
from buildkit.cli.options import add_arch_argument, add_arg_argument, make_parser
from buildkit.inspection.explain import explain_stage, print_explanation
from buildkit.report.view import open_view


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Print why the layers of a stage will be built, or were built; raises DefinitionError or BuildError."""
    options = _parse(arguments)
    with (
        open_view(sys.stderr) as emit,
        open_planner(folder, emit, PlannerOptions(args=options.arg, arch=options.arch)) as planner,
    ):
        explanation = explain_stage(planner, check_stage(planner.graph, options.stage), options.layer)
    if options.json:
        sys.stdout.write(json.dumps(explanation.as_json(), indent=2) + "\n")
    else:
        print_explanation(explanation, sys.stdout, whole=not options.layer)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("explain")
    add_arch_argument(parser)
    add_arg_argument(parser)
    parser.add_argument("stage", metavar="STAGE", help="a stage")
    parser.add_argument(
        "layer",
        nargs="?",
        default="",
        metavar="LAYER",
        help="its name, the end of it, or digits of its key",
    )
    parser.add_argument("--json", action="store_true", help="print the explanation as JSON")
    return parser.parse_args(list(arguments))
