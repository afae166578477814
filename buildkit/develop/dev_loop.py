"""What a running development environment does about saved files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from buildkit.build.planner import Planner, open_planner
from buildkit.declare.services import FILE
from buildkit.develop.change_queue import SingleRunner
from buildkit.develop.reload_client import ReloadClient
from buildkit.develop.stage_trees import StageFacts, StageTrees, describe_stage
from buildkit.errors import BuildkitError, Interrupted
from buildkit.events import Event, Note
from buildkit.report.loop_view import Reacted, Said, Tell
from buildkit.running.environment import RunningService
from buildkit.running.watch_rules import Action, Reaction, WatchRule, is_private, react
from buildkit.tools import composed

_INDEX = ".git/index"  # what is tracked, and so part of an image


@dataclass(frozen=True, kw_only=True)
class DevActions:
    """What the loop can do: ``build`` stages, ``replace`` the container of a service, ``restart`` it.

    ``check_services`` raises DefinitionError if services.toml asks for something else than what runs.
    """

    build: Callable[[Sequence[str]], None]
    replace: Callable[[str], object]
    restart: Callable[[str], None]
    check_services: Callable[[], None]


@dataclass(kw_only=True)
class DevService:
    """A service as the loop knows it; ``stage`` is empty for an image by digest, ``rules`` are the user's own.

    Changed code does not restart one that ``holds_work``: Jupyter's kernels hold what their user has computed.
    """

    running: RunningService
    stage: str = ""
    rules: tuple[WatchRule, ...] = ()
    holds_work: bool = False
    client: ReloadClient | None = None
    since: dict[int, float] = field(default_factory=dict)  # generation of the code → when it began to answer
    changed: tuple[str, ...] = ()  # the files of the last save
    restarts: SingleRunner | None = None

    @property
    def name(self) -> str:
        """The name of the service."""
        return self.running.name


class DevLoop:
    """Reacts to changed paths of the project at ``folder``; ``handle`` is called by one thread."""

    def __init__(
        self,
        folder: Path,
        services: Sequence[DevService],
        trees: Mapping[str, StageTrees],
        actions: DevActions,
        tell: Tell,
    ) -> None:
        self._folder = folder
        self._services = services
        self._trees = trees
        self._actions = actions
        self._tell = tell
        self._warned: set[str] = set()
        self._took_stock = False
        self._wanted: dict[str, str] = {}  # the base of a stage's image as the definition last said
        self._builder = SingleRunner(self._rebuild)

    def took_stock(self) -> bool:
        """Return whether the project's files were listed since the last call, so that there may be new folders."""
        took, self._took_stock = self._took_stock, False
        return took

    def close(self) -> None:
        """Let a running rebuild or restart end, and start no other."""
        self._builder.close()
        for service in self._services:
            if service.restarts is not None:
                service.restarts.close()

    def catch_up(self) -> None:
        """Look for what changed before anybody watched."""
        self.handle(frozenset((_INDEX,)))

    def handle(self, changes: frozenset[str]) -> None:
        """Do what a batch of changes asks for. Failures are reported."""
        at = time.time()
        paths = sorted(path for path in changes if path == _INDEX or not is_private(path))
        if not paths:
            return
        if FILE in paths:
            self._check_services()
        try:
            changed = self._refresh(paths)
            if changed is None:
                changed = self._compose(paths)
        except Interrupted:
            return
        except BuildkitError as error:
            self._fail(paths, error)
            return
        for service in self._services:
            self._react(service, paths, changed.get(service.stage, ()), at)

    def _check_services(self) -> None:
        try:
            self._actions.check_services()
        except BuildkitError as error:
            self._fail((FILE,), error)

    def _refresh(self, paths: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
        """Show the present contents of files that are staged already; None if there is more to it."""
        if not all(any(trees.knows(path) for trees in self._trees.values()) for path in paths):
            return None
        found: dict[str, tuple[str, ...]] = {}
        for stage, trees in self._trees.items():
            changed = trees.refresh(paths)
            if changed is None:
                return None
            found[stage] = changed
        return found

    def _compose(self, paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Read the definition again; show the files that images would have now, and ask for a build of what changed."""
        found: dict[str, tuple[str, ...]] = {}
        outdated = []
        self._took_stock = True
        with self.planning() as planner:
            facts = {stage: describe_stage(planner, stage) for stage in self._trees}
        for stage, fact in facts.items():
            found[stage] = self._trees[stage].update(fact.staging)
            self._wanted[stage] = fact.staging.base
            if fact.staging.base != self._trees[stage].base:
                outdated.append(stage)
        if outdated:
            self._builder.request(path for path in paths if path != _INDEX)
        return found

    @contextmanager
    def planning(self) -> Iterator[Planner]:
        """Open the planner; each of its warnings is reported once."""
        with open_planner(self._folder, self._hear) as planner:
            yield planner

    def _hear(self, event: Event) -> None:
        if isinstance(event, Note) and event.warning and event.text not in self._warned:
            self._warned.add(event.text)
            self._tell(Said(event="warning", text=event.text))

    def _rebuild(self, causes: frozenset[str]) -> None:
        """Build the stages whose base changed, and replace their containers alone."""
        began, files = time.monotonic(), tuple(sorted(causes)) or ("stage",)
        try:
            wanted = [stage for stage, base in self._wanted.items() if base != self._trees[stage].base]
            stages = wanted or list(self._outdated())
            if not stages:
                return
            self._actions.build(stages)
            took = time.monotonic() - began
            replaced = [service.name for service in self._services if service.stage in stages]
            for name in replaced:
                self._actions.replace(name)
            others = [service.name for service in self._services if service.name not in replaced]
            untouched = f", {' and '.join(others)} untouched" if others else ""
            what = f"rebuilt in {took:.1f} s, {' and '.join(replaced)} replaced{untouched};"
            seconds = time.monotonic() - began
            self._tell(Reacted(service=replaced[0], files=files, action="rebuild", what=what, seconds=seconds))
            for stage, facts in self._outdated().items():  # nobody waits for that
                self._trees[stage].update(facts.staging)
                self._trees[stage].base = facts.staging.base
        except Interrupted:
            return
        except BuildkitError as error:
            self._fail(files, error)

    def _outdated(self) -> dict[str, StageFacts]:
        with self.planning() as planner:
            facts = {stage: describe_stage(planner, stage) for stage in self._trees}
        return {stage: fact for stage, fact in facts.items() if fact.staging.base != self._trees[stage].base}

    def _react(self, service: DevService, paths: Sequence[str], changed: Sequence[str], at: float) -> None:
        """Tell the application of its changed files, and follow the rules of the service."""
        reaction = next(iter(react(service.rules, paths)), None)
        if reaction is not None and reaction.name != Action.RELOAD:
            self._follow(service, reaction)
            return
        files = tuple(self._trees[service.stage].find_source(path) for path in changed) if changed else ()
        service.changed = files
        if changed and service.client is not None and service.client.changed(changed, at):
            return  # it answers with an event
        if (changed and not service.holds_work) or reaction is not None:
            service.restarts = service.restarts or SingleRunner(partial(self._restart, service))
            service.restarts.request(files or (reaction.causes if reaction else ()))

    def _restart(self, service: DevService, causes: frozenset[str]) -> None:
        """Restart a container; what is saved meanwhile is one more restart."""
        files = tuple(sorted(causes))
        began = time.monotonic()
        try:
            self._actions.restart(service.name)
        except Interrupted:
            return
        except BuildkitError as error:
            self._fail(files, error, service.name)
            return
        seconds = time.monotonic() - began
        self._tell(Reacted(service=service.name, files=files, action="restart", what="restarted", seconds=seconds))

    def _follow(self, service: DevService, reaction: Reaction) -> None:
        """Follow a rule of services.toml beyond what follows from the stage."""
        began, name = time.monotonic(), service.running.container.name
        try:
            if reaction.rebuild:
                self._actions.build([service.stage])
                self._actions.replace(service.name)
            if reaction.sync:
                composed.copy_into(name, [(self._folder / one.path, one.target) for one in reaction.sync])
            if reaction.restart:
                self._actions.restart(service.name)
        except Interrupted:
            return
        except BuildkitError as error:
            self._fail(reaction.causes, error, service.name)
            return
        done = {"rebuild": "rebuilt", "restart": "restarted", "sync+restart": "synced, restarted"}
        what, seconds = done.get(reaction.name, "synced"), time.monotonic() - began
        self._tell(
            Reacted(service=service.name, files=reaction.causes, action=reaction.name, what=what, seconds=seconds)
        )

    def _fail(self, files: Sequence[str], error: BuildkitError, service: str = "") -> None:
        hint = f" ({error.hint})" if error.hint else ""
        what = f"{error.message}{hint}"
        self._tell(
            Reacted(
                service=service, files=tuple(files), action="error", what=what, seconds=0.0, ok=False,
                output=error.output,
            )
        )  # fmt: skip

    # what the reloader says

    def hear(self, service: DevService, event: Mapping[str, Any]) -> None:
        """Report an event of the reloader of a service."""
        reacted = self._translate(service, event)
        if reacted is not None:
            self._tell(reacted)

    def _translate(self, service: DevService, event: Mapping[str, Any]) -> Reacted | Said | None:
        kind, files = event["event"], self._sources(service, event)
        if kind in ("listening", "reloaded", "replaced"):
            service.since[int(event.get("generation") or 0)] = float(event.get("at") or time.time())
        if kind in ("reloaded", "restarted") and event.get("file"):  # without, it is the first time
            why = f" ({event['why']})" if event.get("why") else ""
            seconds = float(event.get("ms") or 0) / 1000
            what = f"{kind}{why}"
            return Reacted(service=service.name, files=files, action=kind, what=what, seconds=seconds)
        if kind == "error":
            return Reacted(
                service=service.name, files=files, action="error", what=_describe_error(service, event), seconds=0.0,
                ok=False, output=str(event.get("text") or ""),
            )  # fmt: skip
        if kind == "replace":
            self._builder.request(files)
            return None
        if kind == "exited":
            how = f"signal {event['signal']}" if event.get("signal") else f"exit code {event.get('code')}"
            return Said(event="exited", text=f"{service.name}: the application ended with {how}")
        if kind == "debugger":
            return Said(event="debugger", text=f"{service.name}: debugger {event.get('state')}")
        if kind == "notice":
            return Said(event="notice", text=f"{service.name}: {event.get('text')}")
        return None

    def _sources(self, service: DevService, event: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the files of the project that an event is about: the first by name, the others by their number."""
        if not event.get("file"):
            return (service.name,)
        first = self._trees[service.stage].find_source(str(event["file"]))
        count = event.get("files")
        others = [path for path in service.changed if path != first]
        return (first, *others[: count - 1]) if isinstance(count, int) and count > 1 else (first,)


def _describe_error(service: DevService, event: Mapping[str, Any]) -> str:
    line = f"line {event['line']}: " if event.get("line") else ""
    serving = event.get("serving")
    if serving is None:
        state = "nothing answers until it is mended"
    else:
        at = service.since.get(int(serving))
        state = (
            f"the code of {time.strftime('%H:%M:%S', time.localtime(at))} still answers"
            if at
            else "the old code answers"
        )
    return f"{line}{event.get('message')}; {state}"
