"""The session ``observe``: start, end or print what watches an environment of services."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from buildkit.build.delivery import Delivery, choose_delivery
from buildkit.build.options import PlannerOptions
from buildkit.build.own_files import own_path
from buildkit.build.planner import Planner, open_planner
from buildkit.cli.up import load_environment, parse_options, run_environment
from buildkit.declare.observe_settings import STACK
from buildkit.declare.services import FILE, Services
from buildkit.declare.services_file import load_services
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Emit, ignore_event
from buildkit.inspection.stage_container import describe_container
from buildkit.observe.stack import Watched, choose_environment, feed_folder, make_stack
from buildkit.report.view import open_view
from buildkit.running.environment import RunningEnvironment
from buildkit.services.host_reader import ensure_reader, find_readers, stop_reader
from buildkit.services.replicas import choose_replicas
from buildkit.services.stack_project import ensure_stack_project
from buildkit.store.ledger_key import key_file
from buildkit.tools import podman

_MOST_BYTES = 1 << 20  # of a file of rules


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Start, end, show or print what watches. Raises DefinitionError, BuildError and Interrupted."""
    options = parse_options("observe", arguments)
    if options.format == "kube-play":
        raise DefinitionError(
            "podman kube play has no names by which Prometheus would find its parts",
            hint="nox -s observe -- --quadlet prints units for podman",
        )
    stages = ensure_stack_project()
    stack, delivery, findings = _load_stack(folder, stages, options)
    feed = Path(feed_folder(str(key_file().parent), stack.project))
    if options.down:
        stop_reader(feed)
    if options.down or options.status or options.format:
        return run_environment(folder, stack, options, delivery=delivery, stages=str(stages))
    own_findings = own_path(folder, findings, "the path") if findings else None
    with _reading(feed, partial(ensure_reader, feed, folder, own_findings, stages.name)):
        return run_environment(folder, stack, options, delivery=delivery, stages=str(stages))


@contextmanager
def _reading(feed: Path, ensure: Callable[[Emit], None]) -> Iterator[None]:
    """Have this host read while the block runs, and after it unless it fails."""
    ran = bool(find_readers(feed))
    with open_view(sys.stderr) as emit:
        ensure(emit)
    try:
        yield
    except BaseException:
        if not ran:
            stop_reader(feed)
        raise


def _load_stack(folder: Path, stages: Path, options: argparse.Namespace) -> tuple[RunningEnvironment, str, str]:
    """Return what watches, where its images are delivered to, and the file of findings."""
    with open_view(sys.stderr) as emit:
        with open_planner(folder, emit, PlannerOptions(args=options.arg)) as planner:
            runs = options.down or options.status
            name = options.environment or (_find_watched(planner) if runs else "")
            watched = _load_watched(planner, name, in_cluster=options.format == "kubernetes")
            to_docker = choose_delivery("", planner.context.project) is Delivery.DOCKER
        with open_planner(stages, ignore_event) as planner:  # what it says, a build of the stages says, too
            stack = make_stack(watched, partial(describe_container, planner), str(key_file().parent))
    return stack, Delivery.AUTO if to_docker else "", watched.services.observe.findings


def _find_watched(planner: Planner) -> str:
    """Return the environment that is watched now, as the networks of Prometheus say; any if none is."""
    project, services = planner.context.project.name, _load_services(planner)
    names, container = [one.name for one in services.environments], f"{project}-{STACK}-prometheus"
    is_there = podman.has_container(container)
    networks = podman.inspect_container(container)["NetworkSettings"]["Networks"] if is_there else {}
    joined = [name for name in names if f"{project}-{name}" in networks]
    return next(filter(None, (*joined, services.observe.environment, *names)), "")


def load_running_stack(folder: Path, networks: frozenset[str]) -> tuple[Path, RunningEnvironment] | None:
    """Return the folder of what watches, and its environment as it is started beside one with one of these networks.

    None if the project has an environment of this name. Raises DefinitionError and BuildError.
    """
    stages = ensure_stack_project()
    with open_planner(folder, ignore_event) as planner:
        project, services = planner.context.project.name, _load_services(planner)
        names = [one.name for one in services.environments]
        if STACK in names:
            return None
        joined = [name for name in names if f"{project}-{name}" in networks]
        watched = _load_watched(planner, next(filter(None, (*joined, services.observe.environment, *names)), ""))
    with open_planner(stages, ignore_event) as planner:
        return stages, make_stack(watched, partial(describe_container, planner), str(key_file().parent))


def _load_services(planner: Planner) -> Services:
    folder = planner.context.project.folder
    return load_services(folder, planner.graph.stages) if (folder / FILE).exists() else Services(file=FILE)


def _load_watched(planner: Planner, environment: str, *, in_cluster: bool = False) -> Watched:
    services = _load_services(planner)
    name = choose_environment(services, environment)
    return Watched(
        project=planner.context.project.name,
        services=services,
        environment=choose_replicas(load_environment(planner, name)) if name else None,
        rules=tuple(_read_rules(planner.context.project.folder, services.observe.rules)),
        in_cluster=in_cluster,
    )


def _read_rules(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield files of rules of the project, by the names that Prometheus gets them under."""
    for number, name in enumerate(names):
        path = own_path(folder, name, "the path")
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("holds more than 1 MiB")
            text = path.read_text("utf-8")
        except OSError as error:
            what = f"{name} cannot be read: {error.strerror}"
        except ValueError as error:
            what = f"{name} {'is not UTF-8 text' if isinstance(error, UnicodeDecodeError) else error}"
        else:
            yield f"own-{number}-{path.stem}.yml", text
            continue
        raise DefinitionError.of([Problem(file=FILE, key="observe.rules", what=what)])
