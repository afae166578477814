"""The session ``graph``: draw stages and layers as a tree, SVG, Mermaid or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.options import PlannerOptions, RemoteCacheOptions, open_remote_cache
from buildkit.build.planner import check_stage, open_planner
from buildkit.cli.options import add_arch_argument, make_parser
from buildkit.inspection.graph import collect
from buildkit.report.output_files import check_writable, write_text
from buildkit.report.view import open_view


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Draw the named stages, or all of them; raises DefinitionError or BuildError."""
    options = _parse(arguments)
    if options.svg is not None:
        check_writable(options.svg)  # before the work, not after it
    with open_view(sys.stderr) as emit, open_planner(folder, emit, PlannerOptions(arch=options.arch)) as planner:
        names = [check_stage(planner.graph, name) for name in options.stages] or sorted(planner.graph.stages)
        if options.shared or options.cache:  # else no network is touched
            open_remote_cache(planner.context, RemoteCacheOptions(cache=options.cache, cache_read_only=True))
        picture = collect(planner, dict.fromkeys(names))
    if options.svg is not None:
        from buildkit.report.graph_svg import render_svg

        write_text(options.svg, render_svg(picture))
    elif options.mermaid:
        from buildkit.report.graph_mermaid import render_mermaid

        sys.stdout.write(render_mermaid(picture))
    elif options.json:
        sys.stdout.write(json.dumps(picture.as_json(), indent=2) + "\n")
    else:
        from buildkit.report.graph_tree import render_tree
        from buildkit.report.live import print_lines

        print_lines(render_tree(picture), sys.stdout)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("graph")
    add_arch_argument(parser)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="a stage with all that it is made of (default: all)")
    parser.add_argument("--shared", action="store_true", help="ask the remote cache of the settings over the network")
    parser.add_argument("--cache", default="", metavar="REPOSITORY", help="ask this remote cache over the network")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--svg", type=Path, metavar="FILE", help="write an SVG picture to a file")
    how.add_argument("--mermaid", action="store_true", help="print a Mermaid flowchart")
    how.add_argument("--json", action="store_true", help="print the data of the picture as JSON")
    return parser.parse_args(list(arguments))
