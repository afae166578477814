"""The session ``matrix``: print the stages that need work, in waves, for the matrices of a CI system."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.options import PlannerOptions, RemoteCacheOptions, open_remote_cache
from buildkit.build.planner import check_stage, open_planner, shipping_stages
from buildkit.cli.options import add_arch_argument, make_parser, parse_positive
from buildkit.errors import DefinitionError
from buildkit.events import Emit, Note
from buildkit.inspection.matrix import Matrix, Work, arrange_waves, find_work
from buildkit.report.view import open_view

_MOST_NAMED = 5  # layers of a stage that are named on standard error


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Print the matrix of the stages that are named, or of all that ship; raises DefinitionError or BuildError."""
    options = _parse(arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit, PlannerOptions(arch=options.arch)) as planner:
        requested = tuple(dict.fromkeys(check_stage(planner.graph, name) for name in options.stages))
        images = requested or shipping_stages(planner.graph)
        open_remote_cache(planner.context, RemoteCacheOptions(cache=options.cache, cache_read_only=True))
        if options.only_shared and not planner.context.remote_cache.name:
            raise DefinitionError(
                "--only-shared: there is no remote cache",
                hint="name one: --cache REPOSITORY, or `cache` in [tool.buildkit]",
            )
        work = find_work(planner, images, only_shared=options.only_shared)
        waves = arrange_waves(work.needs, most=options.waves, keep=images)
        _report_waves(work, waves, emit)
    result = Matrix(waves=waves, images=images)
    sys.stdout.write(result.as_gitlab() if options.gitlab else json.dumps(result.as_json()) + "\n")


def _report_waves(work: Work, waves: Sequence[Sequence[str]], emit: Emit) -> None:
    if not work.layers:
        emit(Note(text="nothing to build: every layer is there"))
    for number, wave in enumerate(waves, 1):
        for name in wave:
            layers = work.layers[name]
            names = ", ".join(layers[:_MOST_NAMED]) + (", …" if len(layers) > _MOST_NAMED else "")
            count = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
            emit(Note(text=f"wave {number}: {name}: {count} to build: {names}"))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("matrix")
    add_arch_argument(parser)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="a stage (default: those that ship)")
    parser.add_argument("--cache", default="", metavar="REPOSITORY", help="ask this remote cache")
    parser.add_argument("--only-shared", action="store_true", help="ignore layers that only this machine has")
    parser.add_argument(
        "--waves", type=parse_positive, default=0, metavar="N", help="at most N waves (default: any number)"
    )
    parser.add_argument("--gitlab", action="store_true", help="print a child pipeline for GitLab")
    return parser.parse_args(list(arguments))
