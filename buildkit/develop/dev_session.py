"""The development session: start an environment for development, watch its files, and end it."""

from __future__ import annotations

import posixpath
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread

from buildkit.build.planner import open_planner
from buildkit.declare.services import Services
from buildkit.develop.adapt import (
    DEBUG_PORT,
    RELOADER_FOLDER,
    SOCKET,
    ReloadPlan,
    is_python_service,
    run_below_reloader,
    stage_files,
)
from buildkit.develop.debug_settings import DebugTarget
from buildkit.develop.dev_environment import (
    ENVIRONMENT,
    JUPYTER,
    Notebooks,
    give_notebooks,
    load_dev_services,
    make_dev_environment,
    prepare_notebooks,
    with_jupyter,
)
from buildkit.develop.dev_home import KEPT, hold_home, remove_runs
from buildkit.develop.dev_loop import DevActions, DevLoop, DevService
from buildkit.develop.end_watch import EndWatch
from buildkit.develop.reload_client import ReloadClient
from buildkit.develop.stage_trees import StageFacts, StageTrees, describe_stage
from buildkit.develop.watched import find_watched_folders
from buildkit.develop.watcher import watching
from buildkit.errors import BuildkitError, DefinitionError
from buildkit.events import Emit, Note, ignore_event
from buildkit.report.loop_view import Said, Tell
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.host import PodmanHost
from buildkit.running.watch_rules import Action, WatchRule
from buildkit.services.start import StartOptions, replace_service, start_environment
from buildkit.services.state import ServiceState
from buildkit.services.stop import stop_environment
from buildkit.services.wait import wait_healthy
from buildkit.tools import composed, podman
from buildkit.tools.process import stop_all

_RESTART_PATIENCE = 20.0  # the next save waits for that


@dataclass(frozen=True, slots=True, kw_only=True)
class DevRequest:
    """What was asked for: the project's folder, the environment, and how its applications run.

    ``build`` builds stages by name; ``warm`` starts what the next build of stages needs. With ``detach``, containers
    stay when this process ends.
    """

    folder: Path
    build: Callable[[Sequence[str]], None]
    warm: Callable[[Sequence[str]], None]
    environment: str = ENVIRONMENT
    stage: str = ""
    reload: bool = True
    debug: bool = True
    wait: bool = False
    jupyter: bool = False
    detach: bool = False


@dataclass(frozen=True, kw_only=True)
class DevStart:
    """A development environment as it is started, and what is known of the images of its stages."""

    services: Services
    environment: RunningEnvironment
    facts: dict[str, StageFacts]
    trees: dict[str, StageTrees]
    host: PodmanHost
    notebooks: Notebooks | None = None


def run_dev(request: DevRequest, tell: Tell, emit: Emit, show: Callable[[DevStart], None]) -> None:
    """Start the environment and react to saved files until Ctrl-C, which ends what was started.

    ``show`` is called once everything is healthy. Raises DefinitionError, BuildError and Interrupted; nothing that was
    started is left.
    """
    with hold_home(request.folder) as run:
        services = _load(request, emit)
        request.build(_stages(services, request.environment))
        start = _prepare(request, services, run, emit)
        with _ending(request, start.environment, run, tell, emit):
            start_environment(start.environment, _start_options(request, start), emit)
            remove_runs(run.parent, but=run)  # of detached containers, which were replaced
            show(start)
            if not request.detach:
                _attend(request, start, run, tell, emit)


def _start_options(request: DevRequest, start: DevStart) -> StartOptions:
    return StartOptions(folder=request.folder, host=start.host)


def _load(request: DevRequest, emit: Emit) -> Services:
    with open_planner(request.folder, emit) as planner:
        services = load_dev_services(request.folder, planner.graph, stage=request.stage)
        if not request.jupyter:
            return services
        for service in services.environment(request.environment).services:
            facts = describe_stage(planner, service.stage) if service.stage else None
            if facts is not None and "jupyterlab" in facts.packages:
                return with_jupyter(services, request.environment, service.name, python=facts.python)
    raise DefinitionError("no stage of the environment has jupyterlab", hint="add it to the stage's requirements")


def _stages(services: Services, environment: str) -> tuple[str, ...]:
    found = services.environment(environment).services
    return tuple(dict.fromkeys(service.stage for service in found if service.stage))


def _prepare(request: DevRequest, services: Services, run: Path, emit: Emit) -> DevStart:
    """Return the environment with staged folders, reloaders and notebooks, as it is started."""
    with open_planner(request.folder, emit) as planner:
        plain = make_dev_environment(services, planner, request.environment)
        stages = _stages(services, request.environment)
        facts = {stage: describe_stage(planner, stage) for stage in stages}
    trees = {stage: StageTrees(request.folder, run / "staged" / stage, fact.staging) for stage, fact in facts.items()}
    notebooks = prepare_notebooks(request.folder, run) if request.jupyter else None
    host = podman.probe_host()

    def adapt(service: RunningService) -> RunningService:
        if not service.stage:
            return service
        staged, fact = stage_files(service, trees[service.stage].mounts), facts[service.stage]
        if service.name == JUPYTER and notebooks is not None:
            return give_notebooks(staged, notebooks, rootless=host.rootless)
        if not is_reloaded(request, staged, fact):
            return staged
        return run_below_reloader(staged, _plan_reload(request, staged, fact, run))

    environment = replace(plain, services=tuple(map(adapt, plain.services)))
    return DevStart(
        services=services, environment=environment, facts=facts, trees=trees, host=host, notebooks=notebooks
    )


def is_reloaded(request: DevRequest, service: RunningService, facts: StageFacts) -> bool:
    """Return whether the reloader runs a service: a Python program with staged files, unless that was refused."""
    if not request.reload or service.name == JUPYTER or not facts.staging.folders or not RELOADER_FOLDER.is_dir():
        return False
    return service.reload.mode != "off" and is_python_service(_command(service, facts))


def _command(service: RunningService, facts: StageFacts) -> tuple[str, ...]:
    """Return what a container runs: a command of its own comes after the image's entrypoint."""
    own = service.container.command
    return (*facts.entrypoint, *own) if own else facts.command


def _plan_reload(request: DevRequest, service: RunningService, facts: StageFacts, run: Path) -> ReloadPlan:
    control = run / "control" / service.name
    control.mkdir(parents=True)
    control.chmod(0o777)  # the container's user makes a socket in it; the folders above are private
    return ReloadPlan(
        program=str(RELOADER_FOLDER),
        control=str(control),
        python=facts.python,
        command=_command(service, facts),
        watch=tuple(folder.target for folder in facts.staging.folders),
        settings=service.reload,
        debug=request.debug and "debugpy" in facts.packages,
        wait=request.wait,
    )


@contextmanager
def _ending(request: DevRequest, environment: RunningEnvironment, run: Path, tell: Tell, emit: Emit) -> Iterator[None]:
    """End the environment with the block, whatever happens in it and however often Ctrl-C is pressed.

    A detached one stays if the block succeeds.
    """
    try:
        yield
        if request.detach:
            (run / KEPT).touch()
            return
    except KeyboardInterrupt:
        try:
            tell(Said(event="stopping", text="stopping"))
        finally:  # an editor may have ended first
            _end(environment, emit)
        raise
    except BaseException:
        _end(environment, emit)
        raise
    _end(environment, emit)


def _end(environment: RunningEnvironment, emit: Emit) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop_environment(environment, emit)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _attend(request: DevRequest, start: DevStart, run: Path, tell: Tell, emit: Emit) -> None:
    """React to changes until Ctrl-C."""
    services = [
        DevService(
            running=service,
            stage=service.stage,
            rules=_rules(service),
            holds_work=service.name == JUPYTER and start.notebooks is not None,
        )
        for service in start.environment.services
    ]
    options, ends = _start_options(request, start), EndWatch(start.environment, tell)
    actions = DevActions(
        build=request.build,
        replace=ends.excusing(lambda name: replace_service(start.environment, name, options, emit)),
        restart=ends.excusing(partial(_restart, start.environment, options, emit)),
        check_services=partial(_check_services, request, start.services),
    )
    loop = DevLoop(request.folder, services, start.trees, actions, tell)
    clients = list(_connect(services, run, loop))
    warming = Thread(target=partial(_warm, request, tuple(start.trees)), name="warming")
    warming.start()
    ends.start()
    try:
        _watch(request.folder, start, loop, tell)
    except KeyboardInterrupt:
        stop_all()
        raise
    finally:
        ends.close()
        for client in clients:
            client.close()
        loop.close()
        warming.join()


def _warm(request: DevRequest, stages: Sequence[str]) -> None:
    with suppress(BuildkitError):  # the build that needs it says what is wrong
        request.warm(stages)


def _watch(folder: Path, start: DevStart, loop: DevLoop, tell: Tell) -> None:
    """React to changes until Ctrl-C; folders that come are watched, too."""
    watched = _find_watched(folder, start)
    said = False
    while True:
        with watching(folder, *watched) as queue:
            loop.catch_up()
            if not said:
                tell(Said(event="watching", text="watching for changes; Ctrl-C ends what was started"))
                said = True
            while (now := _find_watched(folder, start) if loop.took_stock() else watched) == watched:
                changes = queue.take()
                assert changes is not None  # noqa: S101 - nobody closes it without an error
                loop.handle(changes)
        watched = now


def _find_watched(folder: Path, start: DevStart) -> tuple[set[str], set[str]]:
    rules = [watch.path for service in start.environment.services for watch in service.watch]
    sources = [source for trees in start.trees.values() for source in trees.sources()]
    return find_watched_folders(folder, sources, rules)


def _connect(services: Sequence[DevService], run: Path, loop: DevLoop) -> Iterator[ReloadClient]:
    for service in services:
        control = run / "control" / service.name
        if control.is_dir():
            service.client = ReloadClient(control / SOCKET, partial(loop.hear, service), watches=True)
            yield service.client


def _check_services(request: DevRequest, running: Services) -> None:
    """Raise DefinitionError if services.toml asks for something else than what runs."""
    wanted = _load(request, ignore_event)
    if wanted.environment(request.environment) != running.environment(request.environment):
        hint = "Ctrl-C, then nox -s dev, starts what it says now"
        raise DefinitionError("it has changed, and what runs is as it was", hint=hint)


def _restart(environment: RunningEnvironment, options: StartOptions, emit: Emit, name: str) -> None:
    """Restart a container, or start another one where it was removed by hand."""
    service = environment.get(name)
    if not podman.has_container(service.container.name):
        replace_service(environment, name, options, emit)
        return
    composed.restart(service.container.name)
    if lack := wait_healthy(service, _RESTART_PATIENCE):
        emit(Note(text=lack, warning=True))


def _rules(service: RunningService) -> tuple[WatchRule, ...]:
    return tuple(
        WatchRule(
            service=service.name,
            path=posixpath.normpath(watch.path),
            action=Action(watch.action),
            target=watch.target,
            ignore=watch.ignore,
        )
        for watch in service.watch
    )


def describe_rows(start: DevStart, states: Sequence[ServiceState]) -> list[tuple[str, str, str, str]]:
    """Return a row for each service: its name, addresses, state, and how to get in."""
    rows = []
    for state in states:
        service = start.environment.get(state.name)
        notes = [f"nox -s dev -- --shell {state.name}"]
        if service.name == JUPYTER and start.notebooks is not None:
            notes = [start.notebooks.link]
        own = [
            address
            for port, address in zip(service.container.ports, state.addresses, strict=False)
            if port.number == DEBUG_PORT
        ]
        notes += [f"debugger at {address}" for address in own]
        shown = [f"http://{address}" for address in state.addresses if address not in own]
        rows.append((state.name, " ".join(shown), state.state, "; ".join(notes)))
    return rows


def find_debug_targets(start: DevStart) -> list[DebugTarget]:
    """Return the applications that listen for a debugger, with the folders that they were staged from."""
    found = []
    for service in start.environment.services:
        ports = [port.host for port in service.container.ports if port.number == DEBUG_PORT]
        if ports and service.stage:
            folders = start.facts[service.stage].sources
            found.append(DebugTarget(name=service.name, port=ports[0], folders=folders))
    return found
