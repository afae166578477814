"""The session ``run-STAGE``: build a stage, and start its image with the recommended flags."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from buildkit.build.delivery import Delivery, choose_delivery
from buildkit.build.gpu_grants import plan_gpus
from buildkit.build.mounted_models import check_models
from buildkit.build.options import PlannerOptions
from buildkit.build.planner import open_planner
from buildkit.cli.building import build
from buildkit.cli.options import add_prior_build_arguments, make_parser, prior_build_options
from buildkit.cli.printed_formats import PrintedFormat, add_format_arguments
from buildkit.digits import find_number
from buildkit.errors import BuildError
from buildkit.inspection.stage_container import check_runnable, describe_container, warn_of_notes
from buildkit.inspection.start_container import start_container
from buildkit.report.view import open_view
from buildkit.running.commands import render_command
from buildkit.running.compose import render_compose
from buildkit.running.flags import ContainerSpec
from buildkit.running.gpu_notes import GpuFormat, gpu_notes
from buildkit.running.quadlet import render_quadlet
from buildkit.running.seccomp import render_seccomp
from buildkit.tools import podman


def run(folder: Path, stage: str, arguments: Sequence[str]) -> int:
    """Build a stage and run its image, or print how to run it; return the exit code of the container.

    Raises DefinitionError, BuildError and Interrupted.
    """
    options = _parse(stage, arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit, PlannerOptions(args=options.arg)) as planner:
        if not options.format:
            check_runnable(planner.composer.compose(stage), options.command)
        container = describe_container(planner, stage, name=options.name, host_port=options.port)
        to_docker = choose_delivery("", planner.context.project) is Delivery.DOCKER
    delivery = Delivery.AUTO if to_docker else ""  # podman runs it
    container = replace(container, options=tuple(options.option), command=tuple(options.command))
    if options.format:
        (planned,) = plan_gpus((container,))
        form = FORMATS[options.format]
        sys.stdout.write(form.render(planned))
        if form.reader:
            warn_of_notes(gpu_notes((planned,), form.reader), sys.stderr)
        return 0
    if not options.no_build:
        build(folder, (stage,), prior_build_options(options, delivery))
    elif podman.find_image_config(container.image) is None:
        raise BuildError(f"{container.image} is not in local storage", hint=f"nox -s build-{stage}")
    check_models(container.image, container.models)
    strict = container.running.strict if options.strict is None else options.strict
    return start_container(container, detach=options.detach, strict=strict)


def _render_units(container: ContainerSpec) -> str:
    return "\n".join(f"# {name}\n{text}" for name, text in render_quadlet(container))


FORMATS: dict[str, PrintedFormat[ContainerSpec]] = {
    "print": PrintedFormat(about="commands", render=render_command, reader=GpuFormat.HOST),
    "compose": PrintedFormat(about="compose file", render=render_compose, reader=GpuFormat.PODMAN),
    "docker-compose": PrintedFormat(
        about="compose file for docker compose, which reads GPUs otherwise",
        render=partial(render_compose, form=GpuFormat.DOCKER),
        reader=GpuFormat.DOCKER,
    ),
    "quadlet": PrintedFormat(about="units for systemd", render=_render_units, reader=GpuFormat.HOST),
    "seccomp": PrintedFormat(about="seccomp profile that those name", render=lambda _: render_seccomp()),
}


def _parse(stage: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("run", stage)
    add_format_arguments(parser.add_mutually_exclusive_group(), FORMATS)
    parser.add_argument(
        "--port", type=_port, metavar="N", help="publish the first port as N; with 0, all ports as free ones"
    )
    parser.add_argument("--name", default="", help="of the container and its network (default: PROJECT-STAGE)")
    parser.add_argument("--detach", action="store_true", help="leave it running, and print its name")
    parser.add_argument("--no-build", action="store_true", help="run the image of local storage")
    parser.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        help="fail if this host cannot apply a flag (default: what the stage says)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="OPTION",
        help="pass this to podman run, too (--option=--device=/dev/fuse)",
    )
    add_prior_build_arguments(parser)
    parser.add_argument("command", nargs="*", metavar="WORD", help="run this command, not the image's; after --")
    return parser.parse_args(list(arguments))


def _port(text: str) -> int:
    port = find_number(text)
    if port is None or port > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, or 0, not {text!r}")
    return port
