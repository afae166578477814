"""The session ``plan``: print where every layer of an image will come from, and what that costs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.mounted_models import with_models
from buildkit.build.options import PlannerOptions, RemoteCacheOptions, open_remote_cache
from buildkit.build.planner import check_stage, open_planner, shipping_stages
from buildkit.cli.options import add_arch_argument, add_arg_argument, make_parser
from buildkit.inspection.plan import forecast_stage, print_forecast
from buildkit.oci.reference import parse_ref
from buildkit.report.view import open_view


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Print the plans of the stages that are named, or of all that ship; raises DefinitionError or BuildError."""
    options = _parse(arguments)
    with (
        open_view(sys.stderr) as emit,
        open_planner(folder, emit, PlannerOptions(args=options.arg, arch=options.arch)) as planner,
    ):
        asked = [check_stage(planner.graph, name) for name in options.stages] or shipping_stages(planner.graph)
        names = with_models(planner.graph, asked)
        if options.shared or options.cache:  # else no network is touched
            open_remote_cache(planner.context, RemoteCacheOptions(cache=options.cache, cache_read_only=True))
        repository = parse_ref(options.push, "--push").repository if options.push else ""
        imports = not options.no_import
        forecasts = [forecast_stage(planner, name, imports=imports, repository=repository) for name in names]
    if options.json:
        values = [forecast.as_json() for forecast in forecasts]
        sys.stdout.write(json.dumps(values[0] if len(values) == 1 else values, indent=2) + "\n")
        return
    for number, forecast in enumerate(forecasts):
        sys.stdout.write("\n" * bool(number))
        print_forecast(forecast, sys.stdout, whole=options.all)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("plan")
    add_arch_argument(parser)
    add_arg_argument(parser)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="a stage (default: those that ship)")
    parser.add_argument("--all", action="store_true", help="show every layer, also those without work")
    parser.add_argument("--no-import", action="store_true", help="plan a build that imports no image")
    parser.add_argument("--shared", action="store_true", help="ask the remote cache of the settings over the network")
    parser.add_argument("--cache", default="", metavar="REPOSITORY", help="ask this remote cache over the network")
    parser.add_argument("--push", default="", metavar="REF", help="estimate what a push to this reference would send")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    return parser.parse_args(list(arguments))
