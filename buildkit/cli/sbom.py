"""The session ``sbom``: print or write the SBOM of a stage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.options import PlannerOptions, open_remote_cache
from buildkit.build.planner import check_stage, open_planner
from buildkit.build.sbom import FORMATS, collect_sbom, render_sbom
from buildkit.cli.options import add_arch_argument, add_remote_cache_arguments, make_parser, remote_cache_options
from buildkit.inspection.sbom import render_summary
from buildkit.report.output_files import check_writable, write_text
from buildkit.report.view import open_view


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Print a stage's software bill of materials, or write it to a file; raises DefinitionError and BuildError."""
    options = _parse(arguments)
    if options.output is not None:
        check_writable(options.output)
    with open_view(sys.stderr) as emit, open_planner(folder, emit, PlannerOptions(arch=options.arch)) as planner:
        open_remote_cache(planner.context, remote_cache_options(options))
        sbom = collect_sbom(planner, check_stage(planner.graph, options.stage))
    text = render_sbom(sbom, options.format).decode()
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_text(options.output, text)
    sys.stderr.write("".join(f"{line}\n" for line in render_summary(sbom)))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("sbom")
    add_arch_argument(parser)
    parser.add_argument("stage", metavar="STAGE", help="a stage")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="CycloneDX 1.6 or SPDX 2.3, as JSON")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it to a file (default: print it)")
    add_remote_cache_arguments(parser)
    return parser.parse_args(list(arguments))
