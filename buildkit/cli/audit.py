"""The session ``audit``: find what is wrong with an image, at rest and running."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from buildkit.build.planner import Planner, open_planner
from buildkit.cli.options import make_parser
from buildkit.findings import Severity
from buildkit.inspection.audit import AT_REST, NEVER, RUNNING, Audit, audit_target, render_audit
from buildkit.report.findings_table import parse_severity
from buildkit.report.output_files import check_writable, write_text
from buildkit.report.view import open_view


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Print the findings; return 1 if the gate fails, else 0. Raises DefinitionError and BuildError."""
    options = _parse(arguments)
    if options.sarif is not None:
        check_writable(options.sarif)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        result = audit_target(planner, options.target, _choose(planner, options))
    if options.sarif is not None:
        write_text(options.sarif, _sarif(result))
    if options.json:
        sys.stdout.write(json.dumps(result.as_json(options.fail_on), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(render_audit(result, options.fail_on)) + "\n")
    return int(result.closes(options.fail_on))


def _choose(planner: Planner, options: argparse.Namespace) -> tuple[str, ...]:
    """Return the parts to audit: by default both for a stage; a foreign image is started only with ``--running``."""
    requested = tuple(part for part, chosen in ((AT_REST, options.at_rest), (RUNNING, options.running)) if chosen)
    return requested or ((AT_REST, RUNNING) if options.target in planner.graph.stages else (AT_REST,))


def _sarif(result: Audit) -> str:
    from buildkit.report.sarif import SarifRun, render_sarif

    description = "the root of the image's file system"
    run = SarifRun.of("audit", base="IMAGE", base_description=description, inside=True, subject=result.name)
    accepted = dict(result.accepted)
    return render_sarif((*result.findings, *accepted), replace(run, accepted=accepted))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("audit")
    parser.add_argument("target", metavar="STAGE|REF", help="a stage, or an image: its name, or oci:FOLDER")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="write the findings as SARIF 2.1.0")
    parser.add_argument(
        "--fail-on", type=parse_gate, default=Severity.HIGH, metavar="SEVERITY",
        help="exit with 1 from this severity on: critical, high (default), medium, low, note, or never",
    )  # fmt: skip
    parser.add_argument("--at-rest", action="store_true", help="only read the image; start no container")
    parser.add_argument("--running", action="store_true", help="only inspect a running container")
    return parser.parse_args(list(arguments))


def parse_gate(text: str) -> Severity | None:
    """Return the severity from which on a session fails, None for never."""
    if text.lower() == NEVER:
        return None
    try:
        return parse_severity(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
