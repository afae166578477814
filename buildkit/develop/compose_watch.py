"""``develop.watch`` of a compose file, for containers that podman runs."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from buildkit.declare.compose_file import ComposeBuild, ComposeProject, ComposeService
from buildkit.develop.change_queue import SingleRunner
from buildkit.develop.compose_project import find_containerfile, load_compose, load_ignored, select_rules
from buildkit.develop.watcher import watching
from buildkit.errors import BuildError, BuildkitError, Interrupted, ToolError
from buildkit.report.loop_view import Reacted, Said, Tell
from buildkit.running.watch_rules import Placed, Reaction, WatchRule, react
from buildkit.tools import composed, podman
from buildkit.tools.composed import ComposedContainer
from buildkit.tools.process import Command, find_tool, run, stop_all

_ENGINE = "podman-compose"


def watch_compose(paths: Sequence[Path], names: Sequence[str], tell: Tell, *, start: bool = True) -> None:
    """Watch the files of a compose project until Ctrl-C, which leaves its containers running.

    Later ones of its compose files override earlier ones.

    Services that do not run are started by podman-compose, where that is installed and ``start`` is set. Raises
    DefinitionError and BuildError for what is wrong before the first change; later failures are reported.
    """
    project = load_compose(paths)
    rules = select_rules(project, names)
    _ensure_running(paths, project.name, tuple(rules), start=start)
    folder = paths[0].absolute().parent
    services = {service.name: service for service in project.services if service.name in rules}
    lanes = [_ServiceLane(folder, project, services[name], rules[name], tell) for name in rules]
    deep, shallow = find_watched(folder, [rule for some in rules.values() for rule in some])
    with watching(folder, deep, shallow) as queue:
        for lane in lanes:
            lane.sync_at_start()
        tell(Said(event="watching", text=f"watching the files of {', '.join(rules)}; Ctrl-C ends that"))
        runners = [SingleRunner(lane.react) for lane in lanes]
        try:
            while (changes := queue.take()) is not None:
                for runner in runners:
                    runner.request(changes)
        except KeyboardInterrupt:
            stop_all()
        finally:
            for runner in runners:
                runner.close()


def _ensure_running(paths: Sequence[Path], project: str, names: Sequence[str], *, start: bool) -> None:
    running = {item.service for item in composed.find_composed(project) if item.running}
    missing = [name for name in names if name not in running]
    if not missing:
        return
    files = (word for path in paths for word in ("--file", str(path)))
    argv = (_ENGINE, *files, "up", "--detach", "--build", *missing)
    if not start or find_tool(_ENGINE) is None:
        raise BuildError(f"{', '.join(missing)}: no container runs of the project {project}", hint=" ".join(argv))
    try:
        run(Command(argv=argv, cwd=paths[0].absolute().parent, what="starting the services"))
    except ToolError as error:
        raise BuildError(error.message, hint=podman.find_hint(error.output), output=error.output) from None


def find_watched(folder: Path, rules: Iterable[WatchRule]) -> tuple[set[str], set[str]]:
    """Return folders to watch with all below them, and folders to watch alone, where watched files are or will be."""
    deep, shallow = set(), set()
    for rule in rules:
        if (folder / rule.path).is_dir():
            deep.add(rule.path)
            continue
        parent = posixpath.dirname(rule.path) or "."
        while not (folder / parent).is_dir() and parent != ".":
            parent = posixpath.dirname(parent) or "."
        shallow.add(parent)
    return deep, shallow


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What is done, in words, and the function that does it; that returns what a program said."""

    what: str
    act: Callable[[], str]


class _ServiceLane:
    """Brings changes to the containers of one service; its ``react`` never runs twice at once."""

    def __init__(
        self, folder: Path, project: ComposeProject, service: ComposeService, rules: Sequence[WatchRule], tell: Tell
    ) -> None:
        self._folder = folder
        self._project = project.name
        self._service = service
        self._rules = rules
        self._tell = tell
        self._is_ignored = load_ignored(folder, service.build)
        self._known = {path for rule in rules for path in _list(folder, rule.path)}  # the container may have these
        if service.build is not None and service.build.unread:
            unread = ", ".join(service.build.unread)
            text = f"{service.name}: a rebuild here does not know `build` options {unread}"
            tell(Said(event="warning", text=text))

    def sync_at_start(self) -> None:
        """Copy all files of the rules with ``initial_sync``."""
        rules = [rule for rule in self._rules if rule.initial_sync]
        changes = {path for rule in rules for path in _list(self._folder, rule.path)}
        for reaction in react(rules, changes, self._is_ignored):
            self._do(reaction)

    def react(self, changes: frozenset[str]) -> None:
        """Do what the rules say about changed paths; failures are reported."""
        for reaction in react(self._rules, changes, self._is_ignored):
            self._do(reaction)

    def _do(self, reaction: Reaction) -> None:
        began, words, output = time.monotonic(), [], ""
        ok = True
        try:
            for step in self._steps(reaction):
                output = step.act() or output
                words.append(step.what)
        except Interrupted:
            return
        except BuildkitError as error:
            ok = False
            words.append(error.message)
            output = error.output
        self._tell(
            Reacted(
                service=reaction.service,
                files=reaction.causes,
                action=reaction.name,
                what=f"{self._service.name}: {', '.join(words)}",
                seconds=time.monotonic() - began,
                ok=ok,
                output=output,
            )
        )

    def _steps(self, reaction: Reaction) -> Iterator[_Step]:
        every = composed.find_composed(self._project)
        own = [item for item in every if item.service == self._service.name]
        if not own:
            raise BuildError("no container of it is left")
        if reaction.rebuild:
            assert self._service.build is not None  # noqa: S101 - the reader's check
            yield _Step(what="rebuilt", act=lambda: self._build(own))
            yield _Step(what="replaced", act=lambda: _replace(own, every))
            return
        for item in own if reaction.sync else ():
            yield _Step(what=_describe_sync(reaction.sync), act=partial(self._sync, item, reaction.sync))
        for command in reaction.commands:
            for item in own:
                yield _Step(what="ran a command", act=partial(composed.run_inside, item.name, command))
        if reaction.restart:
            yield _Step(what="restarted", act=lambda: _restart(own))

    def _build(self, own: Sequence[ComposedContainer]) -> str:
        build = self._service.build
        assert build is not None  # noqa: S101 - the caller's check
        context = self._folder / build.context
        argv = build_argv(build, own[0].image, find_containerfile(context, build))
        composed.build_image(argv, context if "://" not in build.context else self._folder, build.inline)
        return ""

    def _sync(self, item: ComposedContainer, placed: Sequence[Placed]) -> str:
        here = [one for one in placed if composed.is_file(self._folder / one.path)]
        self._known |= {one.path for one in here}
        composed.copy_into(item.name, [(self._folder / one.path, one.target) for one in here])
        known = self._known | {str(parent) for path in self._known for parent in PurePosixPath(path).parents}
        gone = [one for one in placed if one.path in known and not os.path.lexists(self._folder / one.path)]
        composed.remove_inside(item.name, [one.target for one in gone])
        return ""


def build_argv(build: ComposeBuild, image: str, file: Path | None) -> tuple[str, ...]:
    """Return ``podman build`` for a service; the text of an inline Containerfile is expected on standard input."""
    argv = ["podman", "build", f"--tag={image}"]
    argv += [f"--file={'-' if build.inline else file}"] if build.inline or file else []
    argv += [f"--target={build.target}"] if build.target else []
    argv += [f"--network={build.network}"] if build.network else []
    for name, value in build.args:
        given = os.environ.get(name) if value is None else value
        argv += [f"--build-arg={name}={given}"] if given is not None else []
    argv += [f"--build-context={name}={place}" for name, place in build.contexts]
    argv += [f"--label={name}={value}" for name, value in build.labels]
    return (*argv, build.context if "://" in build.context else ".")


def _replace(own: Sequence[ComposedContainer], every: Sequence[ComposedContainer]) -> str:
    composed.replace_containers(own, every)
    return ""


def _restart(own: Sequence[ComposedContainer]) -> str:
    for item in own:
        composed.restart(item.name)
    return ""


def _describe_sync(placed: Sequence[Placed]) -> str:
    return f"synced to {placed[0].target}" if len(placed) == 1 else f"synced {len(placed)} files"


def _list(folder: Path, path: str) -> Iterator[str]:
    """Yield the files of a path, relative to ``folder``."""
    if composed.is_file(folder / path):
        yield path
    for parent, folders, names in os.walk(folder / path):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            yield posixpath.normpath(os.path.relpath(Path(parent, name), folder))
