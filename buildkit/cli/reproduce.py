"""The session ``reproduce``: build the layers of a stage twice, and compare them byte by byte."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.planner import check_stage
from buildkit.cli.options import add_jobs_argument, make_parser
from buildkit.cli.tracing import traced
from buildkit.declare.graph import load_graph
from buildkit.report.layer_comparison import print_agreement
from buildkit.report.output_files import check_writable, write_text
from buildkit.reproduce.comparison import STDOUT, ReproduceOptions, build_twice


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Build the layers of a stage twice and print whether they agree; return 0 if they do, else 1.

    Raises DefinitionError and BuildError, as building does.
    """
    options = _parse(arguments)
    check_stage(load_graph(folder), options.stage)
    if options.json not in ("", STDOUT):
        check_writable(Path(options.json))
    with traced(folder, "reproduce", (options.stage,)) as recorder:
        agreement = build_twice(folder, options, recorder)
    text = json.dumps(agreement.as_json(), indent=2) + "\n"
    if options.json == STDOUT:
        sys.stdout.write(text)
    else:
        print_agreement(agreement, sys.stdout)
        if options.json:
            write_text(Path(options.json), text)
    return 0 if agreement.agrees else 1


def _parse(arguments: Sequence[str]) -> ReproduceOptions:
    parser = make_parser("reproduce")
    parser.add_argument("stage", metavar="STAGE", help="the stage to build twice")
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        default="",
        metavar="FILE",
        help="write the result as JSON",
    )
    parser.add_argument("--steps", action="store_true", help="also compare what [[run]] and [apt] steps write")
    parser.add_argument("--no-root", action="store_true", help="do not rebuild Debian roots, which needs the archive")
    parser.add_argument("--cache", default="", metavar="REPOSITORY", help="compare with this remote cache")
    add_jobs_argument(parser)
    options: argparse.Namespace = parser.parse_args(list(arguments))
    return ReproduceOptions(**vars(options))
