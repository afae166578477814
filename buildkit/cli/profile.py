"""The session ``profile``: what a stage's service spends its time and memory on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from buildkit.build.delivery import Delivery, choose_delivery
from buildkit.build.mounted_models import check_models
from buildkit.build.options import PlannerOptions
from buildkit.build.planner import Planner, open_planner
from buildkit.cli.building import build
from buildkit.cli.options import add_prior_build_arguments, make_parser, parse_positive, prior_build_options
from buildkit.errors import BuildError, DefinitionError
from buildkit.inspection.profile_run import PASSES, Profiling
from buildkit.inspection.profile_session import run_profile
from buildkit.inspection.stage_container import check_runnable, describe_container
from buildkit.profiling.requests_file import load_requests
from buildkit.profiling.summary import ProfileSummary
from buildkit.report.table import print_table
from buildkit.report.text import sanitize, sanitize_line
from buildkit.report.view import open_view
from buildkit.tools import podman
from buildkit.tools.py_spy import require_py_spy

_MOST_SECONDS, _MOST_RATE, _MOST_CLIENTS = 600, 1000, 256


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Profile a stage's service, print a summary and write traces. Raises BuildkitError."""
    options = _parse(arguments)
    passes = tuple(one for one in PASSES if not options.only or one in options.only)
    if "cpu" in passes:
        require_py_spy()
    requests = load_requests(options.requests) if options.requests else ()
    with open_view(sys.stderr) as emit, open_planner(folder, emit, PlannerOptions(args=options.arg)) as planner:
        profiling = _describe(planner, options.stage)
        to_docker = choose_delivery("", planner.context.project) is Delivery.DOCKER
    image = profiling.container.image
    if not options.no_build:
        # podman runs it
        build(folder, (options.stage,), prior_build_options(options, Delivery.AUTO if to_docker else ""))
    elif podman.find_image_config(image) is None:
        raise BuildError(f"{image} is not in local storage", hint=f"nox -s build-{options.stage}")
    check_models(image, profiling.container.models)
    profiling = replace(
        profiling, requests=requests, clients=options.clients, seconds=options.seconds, rate=options.rate
    )
    where = options.output or folder / "reports" / "profile" / options.stage
    summary = run_profile(profiling, passes, (options.stage, where.absolute()), _say)
    _print(summary, as_json=options.json)
    return 0


def _describe(planner: Planner, stage: str) -> Profiling:
    """Return a stage's service. Raises DefinitionError for a stage that is none."""
    composition = planner.composer.compose(stage)
    check_runnable(composition, ())
    if not composition.config.ports:
        raise DefinitionError(
            f"{composition.stage.file}: `config.ports` is empty: a profile needs a service that answers requests",
            hint='ports = ["8000"] in [config] names the port; the first one is asked',
        )
    name = f"{planner.context.project.name}-profile-{stage}"
    container = describe_container(planner, stage, name=name, host_port=0)
    return Profiling(container=container, python_path=dict(composition.config.env).get("PYTHONPATH", ""))


def _say(text: str) -> None:
    sys.stderr.write(f"{sanitize_line(text)}\n")
    sys.stderr.flush()


def _print(summary: ProfileSummary, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(summary.as_json(), indent=2) + "\n")
        return
    for title, titles, rows in summary.tables():
        print_table(title, titles, rows, sys.stdout)
    if summary.peak:
        sys.stdout.write(f"peak memory of the largest process: {summary.peak / (1 << 20):.0f} MiB\n")
    for note in summary.notes:
        sys.stdout.write(f"note: {sanitize(note)}\n")
    sys.stdout.write(f"{summary.folder}: {', '.join(summary.files)}\n")
    sys.stdout.write("https://www.speedscope.app opens *.speedscope.json, https://ui.perfetto.dev the other traces\n")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("profile")
    parser.description = "Run a stage's service under load and profilers. Its image is not changed; nothing stays on."
    parser.add_argument("stage", metavar="STAGE", help="the stage of the service; its first port is asked")
    parser.add_argument(
        "--requests", type=Path, metavar="FILE", help='what to send, a line each: POST /v1/x @clip.wav "Accept: */*"'
    )
    parser.add_argument(
        "--only", action="append", choices=PASSES, default=[], help="profile this alone; repeatable (default: all)"
    )
    parser.add_argument(
        "--seconds",
        type=_limited(_MOST_SECONDS),
        default=5,
        metavar="N",
        help="of load each (default: %(default)s)",
    )
    parser.add_argument(
        "--clients", type=_limited(_MOST_CLIENTS), default=2, metavar="N", help="at once (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=_limited(_MOST_RATE), default=100, metavar="N", help="samples a second (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="make the profile's folder there (default: reports/profile/STAGE)"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--no-build", action="store_true", help="run the image of local storage")
    add_prior_build_arguments(parser)
    return parser.parse_args(list(arguments))


def _limited(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = parse_positive(text)
        if number > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, not {text}")
        return number

    return parse
