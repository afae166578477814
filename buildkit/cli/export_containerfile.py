"""The session ``export-containerfile``: write a stage as a Containerfile that builds without this project."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.disk_checkout import IGNORE_FILE
from buildkit.build.planner import Planner, check_stage, open_planner
from buildkit.cli.options import make_parser
from buildkit.containerfile.builder import ExportOptions
from buildkit.inspection.export_containerfile import DEFAULT_FILE, find_links, find_output, make_export, write_export
from buildkit.report.view import open_view


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Write the Containerfile of a stage, and the files that it needs; raises DefinitionError or BuildError."""
    options = _parse(arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        name = check_stage(planner.graph, options.stage)
        export_options = _choose(options, planner)
        export = make_export(planner, name, export_options)
    written = write_export(folder, export_options, export)
    sys.stderr.write(f"{export_options.file}: {name}, with {len(export.files)} side files; {written} changed\n")


def _choose(options: argparse.Namespace, planner: Planner) -> ExportOptions:
    project = planner.context.project
    bytecode = project.bytecode if options.bytecode is None else options.bytecode
    return ExportOptions(
        file=find_output(project.folder, options.output),
        bytecode=bytecode,
        link=options.link,
        root=options.root,
        find_links=find_links(project.folder, options.find_links) if options.find_links is not None else "",
        uv=options.uv,
        ignored=planner.checkout.read(IGNORE_FILE) or "",
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("export-containerfile")
    parser.add_argument("stage", metavar="STAGE", help="a stage")
    parser.add_argument(
        "--output", default=DEFAULT_FILE, metavar="FILE", help=f"in the project (default: {DEFAULT_FILE})"
    )
    parser.add_argument(
        "--bytecode", action=argparse.BooleanOptionalAction, help="compile bytecode (default: as the project does)"
    )
    parser.add_argument("--link", action="store_true", help="COPY --link (BuildKit 0.10, buildah 1.41 and later)")
    parser.add_argument("--root", default="", metavar="IMAGE", help="start from this image, build no root")
    parser.add_argument("--find-links", metavar="FOLDER", help="install wheels from this folder, not from an index")
    parser.add_argument("--uv", default="", metavar="IMAGE", help="install with /uv of this image, not with pip")
    return parser.parse_args(list(arguments))
