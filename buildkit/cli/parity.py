"""The session ``parity``: list in what one stage differs from another, and fail for what is not meant."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from buildkit.build.planner import open_planner
from buildkit.cli.options import make_parser
from buildkit.declare.parity_file import load_allowances
from buildkit.inspection.parity import describe_running
from buildkit.plan.parity import StageDifference, compare_facts, describe_composition, find_idle
from buildkit.report.table import print_table
from buildkit.report.view import open_view


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Compare two stages, or their containers; return 1 if a difference is not meant. Raises BuildkitError."""
    parser = make_parser("parity")
    parser.add_argument("stage", metavar="STAGE", help="the stage that stands for another; its parity.toml counts")
    parser.add_argument("other", metavar="OTHER", help="the stage that it stands for")
    parser.add_argument("--running", action="store_true", help="compare the containers that run their images")
    parser.add_argument("--all", action="store_true", help="list differences that are meant, too")
    parser.add_argument("--json", action="store_true", help="print all differences as JSON")
    options = parser.parse_args(list(arguments))
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        names = options.stage, options.other
        allowances = load_allowances(folder, options.stage)
        compositions = [planner.composer.compose(name) for name in names]
        if options.running:
            project = planner.context.project
            interpreter = f"{project.target.prefix}/bin/python"
            first, second = (describe_running(project.ref(name), interpreter) for name in names)
        else:
            first, second = (
                describe_composition(composition, resolved.running, resolved.gpu)
                for resolved, composition in zip(map(planner.graph.resolve, names), compositions, strict=True)
            )
    differences = compare_facts(first, second, allowances)
    wrong = [difference for difference in differences if not difference.allowed]
    if options.json:
        listed = [asdict(one) | {"change": one.change} for one in differences]
        sys.stdout.write(json.dumps({"differences": listed, "ok": not wrong}, indent=2) + "\n")
    else:
        _print(names, differences if options.all else wrong, len(differences) - len(wrong))
    if not options.running:
        for one in find_idle(differences, allowances):
            sys.stderr.write(f"note: stages/{options.stage}/parity.toml: nothing needs {one.what} `{one.name}`\n")
    return 1 if wrong else 0


def _print(names: tuple[str, str], shown: Sequence[StageDifference], meant: int) -> None:
    if shown:
        rows = [(one.what, one.name, one.first or "-", one.second or "-", one.allowed or "not meant") for one in shown]
        print_table(f"{names[0]} differs from {names[1]}", ("what", "name", *names, "why"), rows, sys.stdout)
    sys.stdout.write(f"differences: {meant} meant, {sum(not one.allowed for one in shown)} not meant\n")
