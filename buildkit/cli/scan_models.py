"""The session ``scan-models``: find out what model files do when they are loaded, without loading them.

Exit codes: 0 all clean; 1 findings, or a file that was not fully scanned; 2 wrong usage, or a file that could not be
read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.context import open_context
from buildkit.cli.options import make_parser
from buildkit.declare.model_allowlist import ALLOW_FILE, load_allowlist
from buildkit.declare.project import load_project
from buildkit.events import Emit, Note
from buildkit.inspection.scan_models import exit_code, print_outcomes, scan_as_json, scan_as_sarif
from buildkit.inspection.scan_run import ScanRun
from buildkit.inspection.scan_targets import find_targets
from buildkit.report.output_files import check_writable, write_text
from buildkit.report.view import open_view
from buildkit.tools.opinion_engines import ENGINES, Engine, find_engines


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Scan, print, and return the exit code; raises DefinitionError, BuildError and Interrupted."""
    options = _parse(arguments)
    folder = folder.absolute()
    if options.sarif is not None:
        check_writable(options.sarif)  # before the work, not after it
    allow = load_allowlist(folder, options.allow)
    with open_view(sys.stderr) as emit, open_context(load_project(folder), emit) as context:
        engines = _find_engines(emit) if options.second_opinion else ()
        targets = find_targets(context, options.what)
        run = ScanRun(context, allow, engines, fresh=options.no_cache)
        outcomes = list(run.run(targets))
        rules = run.scanner.rules
    if options.sarif is not None:
        write_text(options.sarif, scan_as_sarif(outcomes))
    if options.json:
        sys.stdout.write(json.dumps(scan_as_json(outcomes, rules), indent=2) + "\n")
    else:
        print_outcomes(outcomes, sys.stdout)
    return exit_code(outcomes)


def _find_engines(emit: Emit) -> tuple[Engine, ...]:
    engines = find_engines()
    for name in sorted(ENGINES.keys() - {engine.name for engine in engines}):
        text = f"no second opinion by {name}: it is not installed (uv pip install {name})"
        emit(Note(text=text, warning=True))
    return engines


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("scan-models")
    parser.add_argument("what", nargs="*", metavar="STAGE|PATH", help="(default: all models of all stages)")
    parser.add_argument("--json", action="store_true", help="print files, checksums and findings as JSON")
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="write the findings as SARIF 2.1.0")
    parser.add_argument("--second-opinion", action="store_true", help=f"report what {' and '.join(ENGINES)} say")
    parser.add_argument("--no-cache", action="store_true", help="ignore earlier scans")
    parser.add_argument("--allow", default="", metavar="FILE", help=f"the allow-file (default: {ALLOW_FILE})")
    return parser.parse_args(list(arguments))
