"""The session ``audit-deps``: look up advisories for what the locks pin. No answer is not a pass."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.planner import check_stage, open_planner
from buildkit.cli.guard import print_error
from buildkit.cli.options import make_parser
from buildkit.errors import FetchError
from buildkit.inspection.audit_deps import as_json, find_scope, render
from buildkit.report.view import open_view
from buildkit.tools.auditor import Vulnerability, audit


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Print known vulnerabilities; return 1 if there are any, or if the service gave no answer.

    Raises DefinitionError.
    """
    options = _parse(arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        stages = [check_stage(planner.graph, name) for name in options.stage] or list(planner.graph.stages)
        scope = find_scope(planner, stages)
        python = planner.context.project.target.minor
    advisories: tuple[Vulnerability, ...] = ()
    failure: FetchError | None = None
    try:
        advisories = audit(list(scope.pins), python, service=options.service)
    except FetchError as error:
        failure = error
    ignored = frozenset(options.ignore)
    counted = [advisory for advisory in advisories if not ignored & {advisory.id, *advisory.aliases}]
    if options.json:
        value = as_json(scope, advisories, counted, failure)
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in render(scope, advisories, counted, failure)))
    if failure is not None:
        print_error(failure)
    return 1 if failure or counted else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("audit-deps")
    parser.add_argument("stage", nargs="*", metavar="STAGE", help="check the locks of this stage (default: of all)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--ignore", action="append", default=[], metavar="ID", help="ignore this advisory; repeatable")
    parser.add_argument("--service", default="", metavar="URL", help="an advisory service of the OSV format")
    return parser.parse_args(list(arguments))
