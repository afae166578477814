"""Tests in a forked process that has imported third-party modules and pytest already."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .channel import Message
from .control import Json
from .family import Family, Place
from .handles import Calls, Parent, Worker, make_worker
from .selection import load_imports, select_tests

AHEAD = ["pytest", "_pytest.assertion.rewrite", "_pytest.terminal", "pluggy"]
"""Nothing that a plugin of pytest rewrites; of what is imported already, the warning about that is silenced."""

_SILENT = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


@dataclass(slots=True)
class _Run:
    name: str
    emit: Callable[[Json, str], None]
    arguments: list[str]
    since: float
    worker: Worker | None = None
    output: int = -1
    code: int | None = None


class Testing:
    """Runs pytest on request; the parent of such processes is made by the first one."""

    def __init__(self, place: Place, family: Family, calls: Calls) -> None:
        self._place, self._family, self._calls = place, family, calls
        self._parent: Parent | None = None
        self._of: Parent | None = None
        self._is_ready = False
        self.runs: list[_Run] = []

    def start(self, request: Json, emit: Callable[[Json, str], None]) -> None:
        """Run what a request asks for, and tell the client of output and result."""
        name = str(request.get("run", len(self.runs)))
        arguments = list(request.get("args", []))
        if "touched" in request:
            chosen = self._choose(request["touched"])
            if chosen is not None and not chosen:
                emit({"run": name, "code": 5, "seconds": 0.0, "chosen": 0}, "tested")  # pytest's: nothing collected
                return
            arguments += chosen or []
        run = _Run(name, emit, arguments, time.monotonic())
        self.runs.append(run)
        if self._family.base is None:
            self._finish(run, 3)
            return
        if self._parent is None or self._parent.is_closed or self._of is not self._family.base:
            self._make_parent(self._family.base)
        elif self._is_ready:
            self._fork(run)

    def cancel(self, name: str) -> None:
        """End a run."""
        for worker in [run.worker for run in self.runs if run.name == name]:
            if worker is not None:
                worker.signal(signal.SIGINT)
                self._place.loop.later(2.0, functools.partial(self._kill, worker))

    def _kill(self, worker: Worker) -> None:
        if not worker.ended:
            worker.signal(signal.SIGKILL, group=True)

    def stop(self) -> None:
        """End all runs."""
        for run in list(self.runs):
            if run.worker is None:
                self.runs.remove(run)
            else:
                run.worker.signal(signal.SIGKILL, group=True)
        if self._parent is not None:
            self._parent.close()

    def ended(self, pid: int, code: int) -> bool:
        """A process has ended; whether it was a run."""
        for run in self.runs:
            if run.worker is not None and run.worker.pid == pid:
                self._ended(run, code)
                return True
        return False

    def _ended(self, run: _Run, code: int) -> None:
        worker = run.worker
        if worker is None or worker.ended:
            return
        worker.ended = True
        worker.signal(signal.SIGKILL, group=True)
        run.code = code
        if run.output < 0:
            self._finish(run, code)

    def _choose(self, touched: list[str]) -> list[str] | None:
        """Return the test files that these paths concern, None for all."""
        return select_tests(load_imports(self._place.trees.folders), touched)

    def _make_parent(self, base: Parent) -> None:
        if self._parent is not None:
            self._parent.close()
        self._is_ready = False
        file = self._place.remembered.folder / "run" / "tests"
        file.write_text("\n".join(AHEAD), "utf-8")
        self._parent = base.fork_parent(self._take)
        self._of = base
        self._parent.send({"order": "preload", "file": str(file)})

    def _take(self, parent: Parent, message: Message) -> None:
        if message["event"] == "ended":
            self.ended(message["pid"], message["code"])
        elif parent is self._parent and message["event"] == "preloaded":
            self._is_ready = True
            for run in self.runs:
                if run.worker is None:
                    self._fork(run)
        elif parent is self._parent:
            for run in [one for one in self.runs if one.worker is None]:
                self._finish(run, 3)

    def _fork(self, run: _Run) -> None:
        if self._parent is None:
            return
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        run.worker, run.output = make_worker(self._parent, output=writing), reading
        os.close(writing)
        self._calls.attend(run.worker)
        self._place.loop.read(reading, lambda: self._read(run))
        cache = Path(self._place.remembered.folder) / "pytest"
        arguments = [*_SILENT, "-o", f"cache_dir={cache}", *run.arguments]
        run.worker.order({"order": "test", "arguments": arguments})

    def _read(self, run: _Run) -> None:
        try:
            data = os.read(run.output, 1 << 16)
        except BlockingIOError:
            return
        if data:
            run.emit({"run": run.name, "text": data.decode(errors="replace")}, "output")
            return
        self._place.loop.forget(run.output)
        os.close(run.output)
        run.output = -1
        if run.code is not None:
            self._finish(run, run.code)

    def _finish(self, run: _Run, code: int) -> None:
        self.runs.remove(run)
        if run.worker is not None:
            self._calls.release(run.worker)
        seconds = round(time.monotonic() - run.since, 3)
        run.emit({"run": run.name, "code": code, "seconds": seconds}, "tested")
