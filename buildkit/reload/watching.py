"""What changed: told by the host, or found by looking; gathered so that many files are one change."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .loop import Loop
from .trees import AppTrees, Stamp, find_changes, scan_trees

SETTLE = 0.008
"""Seconds in which further changes join the first."""

SLOWEST, SHARE = 0.15, 20
"""A look at the files begins this many seconds after the last, and takes at most one part in so many of the time."""


@dataclass(slots=True)
class GatheredChanges:
    """Paths that changed, and since when (seconds since the epoch)."""

    paths: set[str] = field(default_factory=set)
    since: float = 0.0


class Watching:
    """Gathers changes, and looks for them where nobody tells."""

    def __init__(self, loop: Loop, trees: AppTrees, call: Callable[[GatheredChanges], None]) -> None:
        self._loop, self._trees, self._call = loop, trees, call
        self._waiting: GatheredChanges | None = None
        self._found: dict[str, Stamp] = {}
        self._told, self._teller = socket.socketpair()
        self._result: dict[str, Stamp] = {}
        self._seconds = 0.0
        self._unsettled: dict[str, Stamp] | None = None
        self.is_told = False

    def start(self, *, looks: bool) -> None:
        """Remember what is there; look again from time to time if asked to."""
        self._found = scan_trees(self._trees)
        if looks:
            self._loop.read(self._told, self._compare)
            self._loop.later(SLOWEST, self._look)

    def tell(self, paths: list[str], since: float) -> None:
        """Take what somebody says has changed; nothing means: look."""
        if not paths:
            now = scan_trees(self._trees)
            paths, self._found = find_changes(self._found, now), now
        if not paths:
            return
        if self._waiting is None:
            self._waiting = GatheredChanges(since=since)
            self._loop.later(SETTLE, self._settle)
        self._waiting.paths.update(paths)
        self._waiting.since = min(self._waiting.since, since)

    def _settle(self) -> None:
        changes, self._waiting = self._waiting, None
        if changes is not None:
            self._call(changes)

    def _look(self) -> None:
        """Scan in a thread: ten thousand files take longer than connections should wait."""
        if self.is_told:
            self._loop.later(SLOWEST, self._look)
            return

        def scan() -> None:
            began = time.monotonic()
            self._result = scan_trees(self._trees)
            self._seconds = time.monotonic() - began
            self._teller.send(b".")

        threading.Thread(target=scan, daemon=True).start()

    def _compare(self) -> None:
        """Tell of changes when two looks in turn saw the same: a branch switch takes a while."""
        self._told.recv(1)
        now = self._result
        if not self.is_told and now != self._found:
            if self._unsettled == now:
                since = min((now[path][0] / 1e9 for path in find_changes(self._found, now) if path in now), default=0.0)
                age = time.time() - since
                self.tell(find_changes(self._found, now), since if 0 <= age < 10 else time.time())
                self._found, self._unsettled = now, None
            else:
                self._unsettled = now
                self._loop.later(max(0.02, self._seconds), self._look)
                return
        elif self.is_told:
            self._found = now
        self._loop.later(max(SLOWEST, self._seconds * SHARE), self._look)
