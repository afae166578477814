"""Process 1 of the container: owns the sockets, starts everything else, and outlives every edit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .channel import Message
from .control import Client, Control, Json
from .debugger import Debugger
from .decide import Part, decide
from .family import Family, Place
from .generations import Generations, find_place
from .handles import Worker, become_subreaper
from .loop import Loop
from .options import Options
from .program import Program, parse_program
from .remembered import Remembered
from .restarting import Restarting
from .testing import Testing
from .trees import IGNORED, AppTrees
from .watching import GatheredChanges, Watching

REPORT_AFTER = 0.25
"""Seconds after the first answer when a worker is asked what it imported: lazy imports come with first requests."""


def run_supervisor(options: Options, folder: Path) -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    loop = Loop()
    become_subreaper()
    if options.control is not None:
        options.control.parent.mkdir(parents=True, exist_ok=True)
    program = parse_program(options.command, python=sys.executable) if options.mode != "restart" else None
    trees = AppTrees(folders=options.watch, ignored=IGNORED + options.ignore)
    supervisor = _Supervisor(loop, options, trees)
    return supervisor.run(program, folder)


class _Supervisor:
    def __init__(self, loop: Loop, options: Options, trees: AppTrees) -> None:
        self._loop, self._options = loop, options
        self._remembered = Remembered(options.state)
        self._control = Control(loop, options.control, self._take)
        self._place = Place(loop=loop, options=options, trees=trees, remembered=self._remembered, emit=self._emit)
        self._watching = Watching(loop, trees, self._changed)
        self._since = 0.0
        self._files: tuple[str, ...] = ()
        self._learned: list[str] = []
        self._stopping = False
        self._restarting: Restarting | None = None

    def run(self, program: Program | None, folder: Path) -> int:
        """Start, serve, stop."""
        os.environ["WEB_CONCURRENCY"] = "1"  # several workers are several servers' way to reload
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self.stop)
        self._loop.on_signal(signal.SIGCHLD, self._reap)
        self._watching.start(looks=self._options.poll != "never")
        if program is None:
            why = "asked for" if self._options.mode == "restart" else "the command is no Python program"
            self._emit("started", mode="restart", why=why)
            self._restarting = Restarting(self._place)
            self._restarting.start()
        else:
            self._start(program, folder)
        self._loop.run()
        self._end_parents()
        self._control.close()
        self._remembered.close()
        return 0

    def _start(self, program: Program, folder: Path) -> None:
        self._family = Family(self._place, program, folder)
        self._family.on_broken = self._broken
        self._family.on_ended = self._ended
        self._family.on_renewed = self._prepare_spare
        self._family.on_replaced = self._drop_spare
        self._generations = Generations(self._place, self._family)
        self._generations.on_ready = self._ready
        self._generations.on_report = self._reported
        self._generations.on_orphaned = self._restart
        self._debugger = Debugger(self._place, self._generations)
        self._generations.on_debug = self._debugger.take
        self._testing = Testing(self._place, self._family, self._generations.calls)
        self._emit("started", mode="fork" if self._options.mode == "auto" else self._options.mode)
        self._learned = self._remembered.load_modules() if self._options.learn else []
        self._since = time.time()
        self._family.make(self._names(), self._start_worker)

    def _names(self) -> list[str]:
        debugger = ("debugpy.server.api",) if self._options.debug else ()  # it traces nothing before it listens
        return list(dict.fromkeys((*self._options.preload, *self._learned, *debugger)))

    def _emit(self, name: str, to: Client | None = None, **values: Any) -> None:
        self._control.emit(name, to, **values)
        if name == "error":
            self._since = 0.0  # the next reload is measured from the change that mends it
        if name in {"error", "notice", "reloaded", "replaced", "exited"}:
            line = values.get("message") or values.get("text") or ""
            about = " ".join(f"{key}={values[key]}" for key in ("file", "line", "ms", "generation") if values.get(key))
            sys.stderr.write(f"reload: {name} {about} {line}".rstrip() + "\n")
            sys.stderr.flush()

    # requests

    def _take(self, client: Client, request: Json) -> None:
        match request["request"]:
            case "watch":
                client.watches = True
            case "changed":
                self._watching.tell(request.get("paths", []), float(request.get("at") or time.time()))
            case "status":
                self._emit("status", client, **self._status())
            case "restart":
                self._restart()
            case "test" if self._restarting is None:
                self._testing.start(request, lambda values, name: self._emit(name, client, **values))
            case "cancel" if self._restarting is None:
                self._testing.cancel(str(request.get("run", "")))
            case name:
                self._emit("refused", client, message=f"{name}: not in this mode")
        self._watching.is_told = self._options.poll == "auto" and any(one.watches for one in self._control.clients)

    def _status(self) -> Json:
        if self._restarting is not None:
            return {"mode": "restart", "pid": self._restarting.pid}
        serving, starting = self._generations.serving, self._generations.starting
        return {
            "mode": "fresh" if self._family.fresh_why else "fork",
            "serving": serving and serving.number,
            "pid": serving and serving.pid,
            "starting": starting and starting.number,
            "preloaded": len(self._names()),
            "draining": len(self._generations.draining),
        }

    def _restart(self) -> None:
        self._since, self._files = time.time(), ()
        if self._restarting is not None:
            self._restarting.restart((), self._since)
        else:
            self._family.make(self._names(), self._start_worker)

    # changes

    def _changed(self, changes: GatheredChanges) -> None:
        kept = frozenset() if self._restarting is not None else self._family.files
        decision = decide(changes.paths, self._place.trees, kept)
        if decision.part == Part.CONTAINER:
            self._emit("replace", file=decision.files[0], files=len(decision.files))
            return
        if decision.part == Part.NOTHING or self._stopping:
            self._emit("unaffected", file=decision.files[0] if decision.files else None, files=len(decision.files))
            return
        self._files = decision.files
        self._since = min(self._since, changes.since) if self._since else changes.since
        if self._restarting is not None:
            self._restarting.restart(self._files, self._since)
            self._since = 0.0
        elif self._family.fresh_why:
            self._family.make((), self._start_worker)
        elif self._family.base is None and self._family.is_making:
            return  # the first worker starts when its parent is ready, with the present files
        elif decision.part == Part.KEPT or not self._can_fork():
            self._generations.give_up_starting()
            self._family.make_kept(self._start_worker)
        else:
            self._start_worker()

    def _can_fork(self) -> bool:
        """Whether the present parent has the present code of what is kept."""
        family = self._family
        return family.can_fork() and not family.broken and (not family.is_making or family.is_background)

    def _start_worker(self) -> None:
        """Start a worker with the present files, now that there is a parent."""
        if self._stopping:
            return
        wait = self._options.wait and self._generations.number == 0
        self._generations.start(self._files, self._since or time.time(), wait=wait)

    def _broken(self, message: Message) -> None:
        """What is kept cannot be made: the old worker serves on."""
        serving = self._generations.serving
        text = message.get("text", "")
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "it cannot be kept")
        place = find_place(text, self._place.trees.holds)
        self._since = 0.0
        self._emit("error", **place, message=last, text=text, serving=serving and serving.number)

    def _ready(self, worker: Worker) -> None:
        """A worker serves."""
        ms = round((time.time() - worker.since) * 1000)
        self._since, self._files = 0.0, ()
        file = worker.files[0] if worker.files else None
        about: Message = {"file": file, "files": len(worker.files), "ms": max(0, ms)}
        if worker.how == "replaced":
            self._emit("replaced", generation=worker.number, ms=about["ms"])
        else:
            why = self._family.fresh_why or None
            self._emit("reloaded", **about, generation=worker.number, how=worker.how, why=why)
        self._debugger.moved(worker)
        self._loop.later(REPORT_AFTER, lambda: self._ask_report(worker))
        self._loop.later(0.05, self._prepare_spare)

    def _prepare_spare(self) -> None:
        if not self._stopping and not self._family.is_making:
            self._family.prepare_spare()

    def _drop_spare(self) -> None:
        worker = self._family.drop_spare()
        if worker is not None:
            self._generations.calls.attend(worker)
            self._generations.draining.add(worker)
            worker.orders.close()  # it has nothing to undo

    # learning

    def _ask_report(self, worker: Worker) -> None:
        if worker is self._generations.serving and not self._stopping:
            worker.order({"order": "report", "file": str(self._remembered.report_file(worker.number))})

    def _reported(self, worker: Worker) -> None:
        """Remember what a worker runs, and import the rest of what it imported ahead of the next."""
        try:
            report = json.loads(self._remembered.report_file(worker.number).read_text("utf-8"))
        except (OSError, ValueError):
            return
        worker.pins = self._remembered.write_pins(worker.number, report["code"])
        new = [name for name in report["modules"] if name not in set(self._learned)]
        if not self._options.learn or not new or self._family.fresh_why:
            return
        if self._family.is_making:  # of what is kept, or anew: it must not be disturbed
            self._loop.later(REPORT_AFTER, lambda: self._ask_report(worker))
            return
        self._learned += new
        self._remembered.save_modules(self._learned)
        self._family.make(self._names(), lambda: self._learn(len(new)), background=True)

    def _learn(self, modules: int) -> None:
        """From now on workers need not import these."""
        self._emit("learned", modules=modules)
        self._prepare_spare()

    # ends

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        if self._restarting is not None:
            self._restarting.ended(pid, code)
        elif not self._testing.ended(pid, code):
            self._generations.ended_pid(pid, code)
            self._family.forget_spare(pid)
        self._maybe_stop()

    def stop(self) -> None:
        """End everything, then the loop."""
        if self._stopping:
            return
        self._stopping = True
        self._emit("stopped")
        self._loop.later(self._options.stop_seconds + 1.0, self._loop.stop)
        if self._restarting is not None:
            self._restarting.stop()
        else:
            self._testing.stop()
            self._debugger.stop()
            self._generations.stopping = True
            self._generations.listeners.close()
            self._drop_spare()
            for worker in self._generations.all():
                self._generations.end(worker)
        self._wait_stopped()

    def _end_parents(self) -> None:
        """Wait for the parents, which end when nobody talks to them."""
        if self._restarting is None:
            self._family.close()
        until = time.monotonic() + 1.0
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < until:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.005)

    def _wait_stopped(self) -> None:
        self._maybe_stop()
        self._loop.later(0.02, self._wait_stopped)

    def _maybe_stop(self) -> None:
        if not self._stopping:
            return
        if self._restarting is not None:
            if not self._restarting.pid:
                self._loop.stop()
        elif not self._generations.all() and not self._testing.runs:
            self._loop.stop()
