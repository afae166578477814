"""Watch rules: what changed files ask for; pure.

The rules are those of ``develop.watch`` (https://github.com/compose-spec/compose-spec/blob/main/develop.md) and one
action more, ``reload``: the files are in the container already, and the application takes them without a restart.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from buildkit.declare.containerignore import parse_ignore_file

# what editors write beside a file while they save it: vim, emacs, kate, JetBrains, nano and gedit
_EDITORS = re.compile(
    r"(?:.*/)?(?:4913|\..*\.sw[a-px]|\.#.*|#.*#|.*~|\.goutputstream-.*|.*___jb_(?:tmp|old)___|.*\.kate-swp)"
)


class Action(StrEnum):
    """What happens to a service when a watched file changes."""

    SYNC = "sync"
    SYNC_EXEC = "sync+exec"
    SYNC_RESTART = "sync+restart"
    RELOAD = "reload"
    RESTART = "restart"
    REBUILD = "rebuild"


_SYNCS = (Action.SYNC, Action.SYNC_EXEC, Action.SYNC_RESTART)
_RESTARTS = (Action.RESTART, Action.SYNC_RESTART)


@dataclass(frozen=True, kw_only=True)
class WatchRule:
    """A rule of a service: ``path`` (normalised, relative to the project; ``.`` is all of it) and what follows.

    ``ignore`` and ``include`` are patterns of .containerignore, relative to ``path``; ``target`` is where ``path`` lies
    in the container; ``command`` is run there after a sync.
    """

    service: str
    path: str
    action: Action
    target: str = ""
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    initial_sync: bool = False
    command: tuple[str, ...] = ()

    def find_below(self, path: str) -> str | None:
        """Return a changed path relative to the rule's, ``.`` for that itself; None if the rule is not about it."""
        if self.path == ".":
            below = path
        elif path == self.path:
            below = "."
        elif path.startswith(f"{self.path}/"):
            below = path[len(self.path) + 1 :]
        else:
            return None
        if below != "." and (self._is_ignored(below) or not self._is_included(below)):
            return None
        return below

    @cached_property
    def _is_ignored(self) -> Callable[[str], bool]:
        return parse_ignore_file("\n".join(self.ignore), "ignore")

    @cached_property
    def _is_included(self) -> Callable[[str], bool]:
        return parse_ignore_file("\n".join(self.include), "include") if self.include else lambda _path: True


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A changed file, relative to the project, and its path in the container."""

    path: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What one batch of changes asks of one service; ``causes`` are the changed paths, sorted.

    A rebuild includes all the others: the new container starts with the files as they are.
    """

    service: str
    causes: tuple[str, ...]
    rebuild: bool = False
    restart: bool = False
    reload: bool = False
    sync: tuple[Placed, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()

    @property
    def name(self) -> str:
        """What is done, in a word, as the rules call it."""
        if self.rebuild:
            return Action.REBUILD
        if self.restart:
            return Action.SYNC_RESTART if self.sync else Action.RESTART
        if self.reload:
            return Action.RELOAD
        return Action.SYNC_EXEC if self.commands else Action.SYNC


def react(
    rules: Sequence[WatchRule], changes: Iterable[str], is_ignored: Callable[[str], bool] = lambda _path: False
) -> tuple[Reaction, ...]:
    """Return what changed paths (relative to the project, POSIX) ask for: one reaction a service, however many changes.

    Whatever ``is_ignored`` leaves out, what git keeps for itself, and what editors write while they save, asks for
    nothing.
    """
    paths = sorted(path for path in set(changes) if not (is_private(path) or is_ignored(path)))
    services = dict.fromkeys(rule.service for rule in rules)
    reactions = (_react(service, [rule for rule in rules if rule.service == service], paths) for service in services)
    return tuple(reaction for reaction in reactions if reaction is not None)


def is_private(path: str) -> bool:
    """Return whether a path is git's own, or one that an editor writes while it saves another."""
    return ".git" in path.split("/") or _EDITORS.fullmatch(path) is not None


def _react(service: str, rules: Sequence[WatchRule], paths: Sequence[str]) -> Reaction | None:
    causes: dict[str, None] = {}
    actions: set[Action] = set()
    sync: dict[str, Placed] = {}
    commands: dict[tuple[str, ...], None] = {}
    for path in paths:
        for rule in rules:
            below = rule.find_below(path)
            if below is None:
                continue
            causes[path] = None
            actions.add(rule.action)
            if rule.action in _SYNCS:
                target = posixpath.normpath(posixpath.join(rule.target, below))
                sync[target] = Placed(path=path, target=target)
            if rule.action is Action.SYNC_EXEC:
                commands[rule.command] = None
    if not causes:
        return None
    if Action.REBUILD in actions:
        return Reaction(service=service, causes=tuple(causes), rebuild=True)
    return Reaction(
        service=service,
        causes=tuple(causes),
        restart=not actions.isdisjoint(_RESTARTS),
        reload=Action.RELOAD in actions,
        sync=tuple(sync.values()),
        commands=tuple(commands),
    )
