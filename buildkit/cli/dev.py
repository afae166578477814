"""The session ``dev``: a development environment that follows every save."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.cli.options import make_parser
from buildkit.develop.dev_environment import ENVIRONMENT

if TYPE_CHECKING:
    from buildkit.build.compiler_keeper import CompilerKeeper
    from buildkit.develop.dev_session import DevRequest


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Start, use or end the development environment; return the exit code.

    Raises DefinitionError, BuildError and Interrupted.
    """
    options = _parse(arguments)
    if options.stop or options.shell or options.logs or options.test is not None:
        from buildkit.develop import dev_use

        if options.stop:
            return dev_use.stop(folder, options.environment, stage=options.stage, volumes=options.volumes)
        if options.shell:
            return dev_use.open_shell(folder, options.environment, options.shell)
        if options.logs:
            return dev_use.follow_logs(folder, options.environment, options.logs)
        return dev_use.run_tests(folder, options.environment, options.test)
    return _start(folder, options)


def _start(folder: Path, options: argparse.Namespace) -> int:
    from buildkit.build.compiler_keeper import CompilerKeeper
    from buildkit.develop.dev_session import DevStart, run_dev
    from buildkit.develop.dev_table import show_start
    from buildkit.report.loop_view import LoopView
    from buildkit.report.view import open_view

    view = LoopView(sys.stdout, sys.stderr, as_json=options.json)
    started = False

    def show(start: DevStart) -> None:
        nonlocal started
        show_start(start, folder, options, view)
        started = True

    compilers = CompilerKeeper()
    with open_view(sys.stderr) as emit, closing(compilers):
        try:
            run_dev(_make_request(folder, options, compilers), view, emit, show)
        except KeyboardInterrupt:
            if not started:
                raise
    return 0  # Ctrl-C is how it ends


def _make_request(folder: Path, options: argparse.Namespace, compilers: CompilerKeeper) -> DevRequest:
    from buildkit.build.build_layers import warm_compiler
    from buildkit.build.options import BuildOptions, PlannerOptions
    from buildkit.build.planner import open_planner
    from buildkit.cli.building import build
    from buildkit.cli.options import count_cpus
    from buildkit.develop.dev_session import DevRequest
    from buildkit.events import ignore_event

    def build_quietly(stages: Sequence[str]) -> None:
        if stages:
            build(folder, tuple(stages), BuildOptions(jobs=count_cpus(), delivery="auto", compilers=compilers))

    def warm(stages: Sequence[str]) -> None:
        with open_planner(folder, ignore_event, PlannerOptions(delivery="auto", compilers=compilers)) as planner:
            warm_compiler(planner, stages, count_cpus())

    return DevRequest(
        folder=folder,
        build=build_quietly,
        warm=warm,
        environment=options.environment,
        stage=options.stage,
        reload=options.reload,
        debug=options.debug,
        wait=options.wait,
        jupyter=options.jupyter,
        detach=options.detach,
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("dev")
    parser.add_argument("--environment", default=ENVIRONMENT, metavar="NAME", help="of services.toml (default: dev)")
    parser.add_argument("--stage", default="", metavar="STAGE", help="run this stage alone")
    parser.add_argument("--detach", action="store_true", help="leave it running, and watch nothing")
    parser.add_argument("--jupyter", action="store_true", help="run Jupyter beside it, in the same image")
    parser.add_argument("--open", action="store_true", help="open the first address in a browser")
    parser.add_argument("--wait", action="store_true", help="run no application before a debugger is attached")
    parser.add_argument("--no-debug", dest="debug", action="store_false", help="listen for no debugger")
    parser.add_argument("--no-reload", dest="reload", action="store_false", help="restart containers instead")
    parser.add_argument("--write-launch", action="store_true", help="write .vscode/launch.json for the debugger")
    parser.add_argument("--write-pycharm", action="store_true", help="write a run configuration that attaches PyCharm")
    parser.add_argument("--json", action="store_true", help="print events as JSON, one a line, for editors")
    running = parser.add_mutually_exclusive_group()
    running.add_argument("--stop", action="store_true", help="end what runs")
    running.add_argument("--shell", default="", metavar="SERVICE", help="open a shell in a service")
    running.add_argument("--logs", default="", metavar="SERVICE", help="follow the log of a service")
    running.add_argument("--test", nargs=argparse.REMAINDER, metavar="ARG", help="run pytest in the warm container")
    parser.add_argument("--volumes", action="store_true", help="with --stop: remove volumes, and what is in them")
    options = parser.parse_args(list(arguments))
    if options.volumes and not options.stop:
        parser.error("--volumes goes with --stop")
    return options
