"""The session ``up``: start an environment of services, end it, or print it in another format."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from buildkit.build.delivery import Delivery, choose_delivery
from buildkit.build.gpu_environment import planned_environment, with_counted_gpus
from buildkit.build.options import PlannerOptions
from buildkit.build.planner import Planner, open_planner
from buildkit.cli.building import build
from buildkit.cli.options import add_prior_build_arguments, make_parser, prior_build_options
from buildkit.declare.services import Services
from buildkit.declare.services_file import load_services
from buildkit.errors import DefinitionError
from buildkit.inspection.stage_container import check_runnable, describe_container, warn_of_lacks, warn_of_notes
from buildkit.report.table import print_table
from buildkit.report.view import open_view
from buildkit.running.commands import render_commands
from buildkit.running.compose import render_compose_environment
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec
from buildkit.running.gpu_notes import GpuFormat, gpu_notes
from buildkit.running.kubernetes import render_kubernetes
from buildkit.running.mps import with_mps
from buildkit.running.quadlet import render_quadlet_environment
from buildkit.running.seccomp import render_seccomp
from buildkit.running.secret_notes import secret_notes
from buildkit.services.mounted_files import ensure_mounted_files
from buildkit.services.replicas import choose_replicas, forget_replicas, shadow_notes, write_proxies
from buildkit.services.rollout_files import find_proxies
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
        print_format(without(environment, options.excluded), options.format)
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


def print_format(environment: RunningEnvironment, form: str) -> None:
    """Print an environment in a format; what that cannot say is a warning, too.

    What services on this host read is written where the format says that it lies.
    """
    if form in _HOST_FORMATS:
        write_proxies(environment)
        ensure_mounted_files(environment)
        warn_of_notes([note for proxy in find_proxies(environment) for note in shadow_notes(proxy)], sys.stderr)
    planned = planned_environment(environment)
    if form not in _OTHER_MPS:
        planned = with_mps(planned)
    sys.stdout.write(RENDERERS[form](planned))
    if form in _GPU_FORMATS:
        containers = [service.container for service in planned.services]
        secrets = secret_notes(containers, _GPU_FORMATS[form]) if form in _COMPOSE else ()
        warn_of_notes((*secrets, *gpu_notes(containers, _GPU_FORMATS[form])), sys.stderr)


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


def _render_units(environment: RunningEnvironment) -> str:
    return "\n".join(f"# {name}\n{text}" for name, text in render_quadlet_environment(environment))


def _render_profile(_: RunningEnvironment) -> str:
    return render_seccomp()


RENDERERS: dict[str, Callable[[RunningEnvironment], str]] = {
    "print": render_commands,
    "compose": render_compose_environment,
    "quadlet": _render_units,
    "kubernetes": render_kubernetes,
    "docker-compose": partial(render_compose_environment, form=GpuFormat.DOCKER),
    "kube-play": partial(render_kubernetes, form=GpuFormat.PLAY),
    "seccomp": _render_profile,
}
_HOST_FORMATS = ("print", "compose", "docker-compose", "quadlet")
_COMPOSE = ("compose", "docker-compose")
_OTHER_MPS = ("kubernetes", "kube-play")  # the daemon of a cluster is that of its plugin
_GPU_FORMATS = {
    "print": GpuFormat.HOST,
    "compose": GpuFormat.PODMAN,
    "quadlet": GpuFormat.HOST,
    "kubernetes": GpuFormat.KUBERNETES,
    "docker-compose": GpuFormat.DOCKER,
    "kube-play": GpuFormat.PLAY,
}


def parse_options(session: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of ``up``, or of another session that starts an environment."""
    parser = make_parser(session)
    parser.add_argument("environment", nargs="?", default="", metavar="ENVIRONMENT", help="of services.toml")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--down", action="store_true", help="end it; volumes stay")
    what.add_argument("--status", action="store_true", help="only show what runs")
    for name, description in (
        ("print", "commands"),
        ("compose", "compose file"),
        ("quadlet", "units for systemd"),
        ("kubernetes", "Kubernetes objects"),
        ("docker-compose", "compose file for docker compose, which reads GPUs otherwise"),
        ("kube-play", "Kubernetes objects for podman kube play"),
        ("seccomp", "seccomp profile that those name"),
    ):
        what.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=f"only print the {description}"
        )
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
