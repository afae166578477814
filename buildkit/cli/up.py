"""The session ``up``: start an environment of services, end it, or print it in another format."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from buildkit.build.delivery import Delivery, choose_delivery
from buildkit.build.gpu_environment import with_counted_gpus
from buildkit.build.options import PlannerOptions
from buildkit.build.planner import Planner, open_planner
from buildkit.cli.building import build
from buildkit.cli.environment_formats import FORMATS, print_environment
from buildkit.cli.options import add_prior_build_arguments, make_parser, prior_build_options
from buildkit.cli.printed_formats import add_format_arguments
from buildkit.declare.services import Services
from buildkit.declare.services_file import load_services
from buildkit.errors import DefinitionError
from buildkit.inspection.stage_container import check_runnable, describe_container, warn_of_lacks
from buildkit.report.table import print_table
from buildkit.report.view import open_view
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec
from buildkit.running.mps import with_mps
from buildkit.services.replicas import choose_replicas, forget_replicas
from buildkit.services.start import PATIENCE, StartOptions, start_environment
from buildkit.services.state import ServiceState, find_states
from buildkit.services.stop import stop_environment
from buildkit.store.ledger_key import key_file
from buildkit.tools.podman import pull
from buildkit.tools.podman_objects import find_image_ids


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Start, end, show or print an environment. Raises DefinitionError, BuildError and Interrupted."""
    options = parse_options("up", arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit, PlannerOptions(args=options.arg)) as planner:
        environment = choose_replicas(load_environment(planner, options.environment))
        to_docker = choose_delivery("", planner.context.project) is Delivery.DOCKER
    return run_environment(folder, environment, options, delivery=Delivery.AUTO if to_docker else "")


def run_environment(
    folder: Path, environment: RunningEnvironment, options: argparse.Namespace, *, delivery: str, stages: str = ""
) -> int:
    """Start, end, show or print an environment of the project at ``folder``.

    Its stages are built from the folder ``stages``, by default the project's. Raises BuildError and Interrupted.
    """
    if options.format:
        print_environment(without(environment, options.excluded), FORMATS[options.format])
        return 0
    environment = with_mps(environment)
    if options.down:
        with open_view(sys.stderr) as emit:
            stopped = stop_environment(environment, emit, volumes=options.volumes)
        forget_replicas(environment)
        print_ended(environment, stopped, as_json=options.json)
        return 0
    if not options.status:
        if not options.no_build:
            build_images(Path(stages or folder), environment, options, delivery=delivery)
        environment = without(environment, options.excluded)
        asked = StartOptions(folder=folder, patience=options.timeout, strict=options.strict)
        with open_view(sys.stderr) as emit:
            started = start_environment(environment, asked, emit)
        warn_of_lacks(started.lacks, sys.stderr)
    print_states(environment, find_states(environment, awaited=not options.status), as_json=options.json)
    return 0


def load_environment(planner: Planner, name: str, option: str = "") -> RunningEnvironment:
    """Return an environment of the project's services; without a name, its only one. Raises DefinitionError.

    ``option`` is what names it on the command line, if it is no argument.
    """
    services = load_services(planner.context.project.folder, planner.graph.stages)
    name = name or _get_only(services, option)
    project = planner.context.project.name
    state = str(key_file().parent)

    def describe(stage: str) -> ContainerSpec:
        return describe_container(planner, stage)

    services = with_counted_gpus(services, name, describe)
    environment = make_environment(services, name, describe, project=project, state=state)
    for service in environment.services:
        if service.stage:
            check_runnable(planner.composer.compose(service.stage), service.container.command)
    return environment


def without(environment: RunningEnvironment, names: Sequence[str]) -> RunningEnvironment:
    """Return an environment less the services that the user runs elsewhere, for which nobody waits.

    Raises DefinitionError for unknown ones.
    """
    excluded = {environment.get(name).name for name in names}
    left = (
        replace(one, depends_on=tuple(other for other in one.depends_on if other.service not in excluded))
        for one in environment.services
        if one.name not in excluded
    )
    return replace(environment, services=tuple(left))


def _get_only(services: Services, option: str) -> str:
    names = [environment.name for environment in services.environments]
    if len(names) != 1:
        how = f"{option} names" if option else "name"
        hint = f"{how} one of {', '.join(names)}" if names else "add [environments.NAME] to services.toml"
        raise DefinitionError("which environment?", hint=hint)
    return names[0]


def build_images(folder: Path, environment: RunningEnvironment, options: argparse.Namespace, *, delivery: str) -> None:
    """Build the stages of an environment, and pull the images that local storage lacks."""
    stages = tuple(dict.fromkeys(service.stage for service in environment.services if service.stage))
    if stages:
        build(folder, stages, prior_build_options(options, delivery))
    images = [service.image for service in environment.services if service.image]
    for image in sorted(set(images) - find_image_ids(images).keys()):
        pull(image)


def print_states(environment: RunningEnvironment, states: Sequence[ServiceState], *, as_json: bool) -> None:
    """Print a table of services with their addresses and states, or the same as JSON."""
    if as_json:
        _write_json({"environment": environment.name, "services": [asdict(state) for state in states]})
        return
    rows = [(state.name, " ".join(state.addresses) or "-", _format_state(state)) for state in states]
    print_table(f"{environment.project}, {environment.name}", ("service", "address", "state"), rows, sys.stdout)


def print_ended(environment: RunningEnvironment, stopped: Sequence[str], *, as_json: bool) -> None:
    """Print which services ended."""
    if as_json:
        _write_json({"environment": environment.name, "ended": sorted(stopped)})
    else:
        what = f"ended: {', '.join(sorted(stopped))}" if stopped else f"nothing of {environment.name} ran"
        sys.stdout.write(f"{what}\n")


def _write_json(value: Any) -> None:  # noqa: ANN401 - a JSON value
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _format_state(state: ServiceState) -> str:
    return f"ended with exit code {state.exit_code}" if state.state == "ended" else state.state


def parse_options(session: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of ``up``, or of another session that starts an environment."""
    parser = make_parser(session)
    parser.add_argument("environment", nargs="?", default="", metavar="ENVIRONMENT", help="of services.toml")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--down", action="store_true", help="end it; volumes stay")
    what.add_argument("--status", action="store_true", help="only show what runs")
    add_format_arguments(what, FORMATS)
    parser.add_argument("--volumes", action="store_true", help="with --down: remove volumes and generated secrets, too")
    parser.add_argument(
        "--except", dest="excluded", action="append", default=[], metavar="SERVICE",
        help="build this service, and start the others; repeatable",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--timeout",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help="wait so long for health (default: %(default)g)",
    )
    parser.add_argument("--no-build", action="store_true", help="run the images of local storage")
    parser.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        help="fail if this host cannot apply a flag (default: what the stages say)",
    )
    add_prior_build_arguments(parser)
    options = parser.parse_args(list(arguments))
    if options.volumes and not options.down:
        parser.error("--volumes needs --down")
    return options
