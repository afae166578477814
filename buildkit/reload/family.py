"""The parents of workers as process 1 sees them: made in the background, replaced when the new one is complete."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .channel import Message
from .code import hash_text
from .handles import Parent, Worker, make_worker, spawn_parent
from .loop import Loop
from .options import Options
from .program import Program, find_executable
from .remembered import Remembered
from .trees import AppTrees

CALLS_AFTER = 0.3
"""Seconds after a call of something kept until the parent makes it, too: others may follow."""

ROUNDS = 6
"""How many modules may turn out to start threads before nothing is imported ahead."""

Emit = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the parts of process 1 share."""

    loop: Loop
    options: Options
    trees: AppTrees
    remembered: Remembered
    emit: Emit


class Family:
    """Two parents, the second forked from the first, and a worker that waits for the word to go."""

    def __init__(self, place: Place, program: Program, folder: Path) -> None:
        self._place, self._program, self._folder = place, program, folder
        self._base: Parent | None = None
        self._kept: Parent | None = None
        self._next: Parent | None = None
        self._spare: Worker | None = None
        self._ready: Callable[[], None] | None = None
        self._excluded: set[str] = set()
        self._keep = list(place.options.keep)
        self._names: list[str] = []
        self._rounds = 0
        self.files: frozenset[str] = frozenset()
        self.broken: Message | None = None
        self.fresh_why = "asked for" if place.options.mode == "fresh" else ""
        self._candidate: Parent | None = None
        self._again = 0
        self._called = False
        self.is_background = False
        self.on_broken: Callable[[Message], None] = lambda _: None
        self.on_ended: Callable[[int, int], None] = lambda _, __: None
        self.on_renewed: Callable[[], None] = lambda: None
        self.on_replaced: Callable[[], None] = lambda: None

    @property
    def is_making(self) -> bool:
        """Whether a parent is being made, for which `ready` will be called."""
        return self._ready is not None

    @property
    def base(self) -> Parent | None:
        """The parent with third-party modules alone, for tests."""
        return self._base

    def make(self, names: Sequence[str], ready: Callable[[], None], *, background: bool = False) -> None:
        """Make both parents; call when workers can be forked. The present ones serve until then.

        ``background`` says that the present ones are as good, but slower.
        """
        self.is_background = background
        self._names = [name for name in names if name.partition(".")[0] not in self._excluded]
        self._ready = ready
        if self._next is not None:
            self._next.close()
            self._next = None
        file = str(self._place.remembered.write_list(self._names)) if self._names and not self.fresh_why else ""
        self._spawn().send({"order": "preload", "file": file})

    def make_kept(self, ready: Callable[[], None], *, background: bool = False) -> None:
        """Make the second parent anew, from the first."""
        if self._base is None:
            self.make(self._names, ready, background=background)
            return
        self._ready, self.is_background = ready, background
        self._fork_kept(self._base)

    def fork(self) -> Worker:
        """Return a worker that waits for the word to go."""
        worker, self._spare = self._spare, None
        if worker is not None and not worker.ended:
            return worker
        if self._kept is None:
            raise RuntimeError("there is no parent to fork from; `can_fork` tells")
        return make_worker(self._kept)

    def keep_call(self, file: Path) -> None:
        """A worker had to make a call of something kept: have the parent make it for the workers to come."""
        self._place.remembered.add_call(file)
        if not self._called:
            self._called = True
            self._place.loop.later(CALLS_AFTER, self._keep_calls)

    def _keep_calls(self) -> None:
        if self.is_making:
            self._place.loop.later(CALLS_AFTER, self._keep_calls)
        elif self._called:
            self._called = False
            self.make_kept(self.on_renewed, background=True)

    def can_fork(self) -> bool:
        """Whether there is a parent to fork from."""
        return self._kept is not None and not self._kept.is_closed

    def prepare_spare(self) -> None:
        """Fork the next worker ahead."""
        if self._spare is None and self.can_fork() and not self.fresh_why:
            self._spare = self.fork()

    def forget_spare(self, pid: int) -> None:
        """A process has ended: if it was the worker that waits, nobody will use it."""
        if self._spare is not None and self._spare.pid == pid:
            self._spare.ended = True
            self._spare = None

    def drop_spare(self) -> Worker | None:
        """Give up the worker that waits; return it to be ended."""
        worker, self._spare = self._spare, None
        return worker

    def close(self) -> None:
        """Let the parents end."""
        for parent in (self._base, self._kept, self._next, self._candidate):
            if parent is not None:
                parent.close()

    def _spawn(self) -> Parent:
        python = find_executable(self._program.python)
        about: dict[str, Any] = {
            "folders": self._place.trees.folders,
            "ignored": self._place.trees.ignored,
            "state": str(self._place.remembered.folder),
            "program": dataclasses.asdict(self._program),
        }
        parent = spawn_parent(
            self._place.loop, (python, *self._program.options, str(self._folder)), about, self._take_base
        )
        self._candidate = parent
        return parent

    def _take_base(self, parent: Parent, message: Message) -> None:
        if message["event"] == "ended":
            self.on_ended(message["pid"], message["code"])
            return
        if parent is not self._candidate and parent is not self._base:
            return
        if message["event"] == "closed":
            self._lost(parent)
            return
        if message["threads"]:
            self._exclude(message["threads"])
            parent.close()
            return
        if message["why"] and not self.fresh_why:
            self.fresh_why = message["why"]
            self._place.emit("notice", text=f"every worker is started afresh, because {self.fresh_why}")
        self._fork_kept(parent)

    def _exclude(self, name: str) -> None:
        """Make the first parent again without a package that starts threads."""
        name = name.partition(".")[0]
        self._excluded.add(name)
        self._rounds += 1
        names = [] if self._rounds > ROUNDS else self._names
        self._place.emit("notice", text=f"{name} is not imported ahead: its import starts threads")
        self.make(names, self._ready or (lambda: None), background=self.is_background)

    def _fork_kept(self, base: Parent) -> None:
        if self._next is not None:
            self._next.close()
        self._next = base.fork_parent(lambda parent, message: self._take_kept(base, parent, message))
        names = [] if self.fresh_why else self._keep
        remembered, self._called = self._place.remembered, False
        files = {"calls": str(remembered.write_calls()), "report": str(remembered.kept_report)}
        self._next.send({"order": "keep", "names": names, **files})

    def _take_kept(self, base: Parent, parent: Parent, message: Message) -> None:
        if message["event"] == "ended":
            self.on_ended(message["pid"], message["code"])
            return
        if parent is self._kept and message["event"] == "closed":
            self._kept = None
            return
        if parent is not self._next:
            return
        match message["event"]:
            case "unkept":
                self._keep.remove(message["name"])
                self._place.emit("notice", text=f"{message['name']} is not kept: {message['why']}")
                self._fork_kept(base)
            case "broken" | "closed":
                self.broken = {"text": f"the parent of the workers ended while it made {self._keep}", **message}
                parent.close()
                self._next, self._ready = None, None
                self._adopt_base(base)
                self.on_broken(self.broken)
            case _:
                self._adopt_kept(base, parent, message)

    def _adopt_base(self, base: Parent) -> None:
        if self._base is not base:
            if self._base is not None:
                self._base.close()
            self._base = base

    def _adopt_kept(self, base: Parent, parent: Parent, message: Message) -> None:
        texts: dict[str, str] = json.loads(self._place.remembered.kept_report.read_text("utf-8"))
        if self._again < ROUNDS and any(text and _hash_file(file) != text for file, text in texts.items()):
            self._again += 1
            self._fork_kept(base)  # it may hold an older text
            return
        self.broken, self._again = None, 0
        self._adopt_base(base)
        old, self._kept, self._next = self._kept, parent, None
        if old is not None:
            old.close()
        self.on_replaced()
        self.files = frozenset(texts)
        if message["names"]:
            self._place.emit("kept", names=message["names"])
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    def _lost(self, parent: Parent) -> None:
        """A parent was killed, or could not start: say so; the next change makes it again."""
        if parent is self._base:
            self._base = None
            return
        self._ready = None
        self.broken = {"text": f"the interpreter {self._program.python} ended before it could be used"}
        self.on_broken(self.broken)


def _hash_file(file: str) -> str:
    try:
        return hash_text(Path(file).read_bytes())
    except OSError:
        return ""
