"""Workers in turn: one starts, one serves, others finish what they have begun."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from .channel import Message
from .family import Family, Place
from .handles import Calls, Worker, listens_itself
from .listeners import Key, Listeners
from .probe import Probe

CRASHES = 3
"""Ends within this many `CRASH_SECONDS` after which nothing is started until the next change."""

CRASH_SECONDS = 20.0

MISSING_SECONDS = 1.0
"""How long a new worker may take to bind a port that the old one has."""

LOOK_SECONDS = 0.3
"""Seconds between looks whether a worker listens without the reloader."""

LET_READ = 0.1
"""Seconds between the last connection and SIGTERM for a server that does not say what it has read."""


class Generations:
    """Starts workers, gives them the connections when they serve, and ends those before them."""

    def __init__(self, place: Place, family: Family) -> None:
        self._place, self._family = place, family
        self.listeners = Listeners(place.loop)
        self.calls = Calls(place.loop, self.listeners, self._take_call)
        self.starting: Worker | None = None
        self.serving: Worker | None = None
        self.draining: set[Worker] = set()
        self.number = 0
        self.stopping = False
        self._probes: dict[Key, Probe] = {}
        self._crashes: list[float] = []
        self._deferred: Callable[[], None] | None = None
        self.on_ready: Callable[[Worker], None] = lambda _: None
        self.on_report: Callable[[Worker], None] = lambda _: None
        self.on_orphaned: Callable[[], None] = lambda: None
        self.on_debug: Callable[[Worker, Message], None] = lambda _, __: None

    def all(self) -> list[Worker]:
        """Return every worker that runs the program."""
        return [worker for worker in (self.starting, self.serving, *self.draining) if worker is not None]

    def start(self, files: tuple[str, ...], since: float, *, wait: bool = False, pins: str = "") -> None:
        """Start a worker with the present code, or that of pins; one that is starting is given up."""
        self.give_up_starting()
        if self.serving is not None and self.serving.alone:
            self._deferred = lambda: self.start(files, since, wait=wait, pins=pins)
            self.drain(self.serving)
            self.serving = None
            return
        self.number += 1
        worker = self._family.fork()
        self.calls.attend(worker)
        worker.number, worker.files, worker.since = self.number, files, since
        worker.how = "fresh" if self._family.fresh_why else "fork"
        self.starting = worker
        self._place.emit("reloading", file=files[0] if files else None, files=len(files), generation=self.number)
        report = str(self._place.remembered.report_file(self.number))
        worker.order({"order": "go", "wait": wait, "pins": pins, "report": report})
        if not wait:
            limit = self._place.options.start_seconds
            worker.timers.append(self._place.loop.later(limit, lambda: self._too_late(worker)))
            worker.timers.append(self._place.loop.later(LOOK_SECONDS, lambda: self._look_alone(worker)))

    def give_up_starting(self) -> None:
        """End a worker that has not served yet."""
        worker, self.starting = self.starting, None
        self._close_probes()
        if worker is not None:
            worker.cancel_timers()
            self.draining.add(worker)
            self._kill(worker)

    def drain(self, worker: Worker) -> None:
        """Let a worker answer what it has, then end it."""
        self.draining.add(worker)
        until = time.monotonic() + self._place.options.stop_seconds
        self._end_when_empty(worker, until)

    def _end_when_empty(self, worker: Worker, until: float) -> None:
        if worker.ended or worker.asked_to_end:
            return
        if time.monotonic() < until and not all(feed.is_empty() for feed in worker.feeds.values()):
            self._place.loop.later(0.003, lambda: self._end_when_empty(worker, until))
            return
        self._place.loop.later(0.0 if worker.gentle or worker.alone else LET_READ, lambda: self.end(worker))

    def end(self, worker: Worker) -> None:
        """Ask a worker to end, and end it with all that it started if it does not."""
        if worker.ended or worker.asked_to_end:
            return
        if not worker.pid:
            self._place.loop.later(0.01, lambda: self.end(worker))
            return
        worker.asked_to_end = True
        worker.signal(signal.SIGTERM)
        worker.timers.append(self._place.loop.later(self._place.options.stop_seconds, lambda: self._kill(worker)))

    def _kill(self, worker: Worker) -> None:
        worker.asked_to_end = True
        if worker.ended:
            return
        if not worker.pid:  # its parent has not told its number yet
            self._place.loop.later(0.01, lambda: self._kill(worker))
            return
        worker.signal(signal.SIGKILL)
        worker.signal(signal.SIGKILL, group=True)

    # what workers tell

    def _take_call(self, worker: Worker, message: Message) -> None:
        match message["call"]:
            case "bound":
                self._bound(worker, message["key"], new=message["new"])
            case "accepted":
                self._accepted(worker, tuple(message["address"]))
            case "called":
                self._family.keep_call(Path(message["file"]))
            case "reported":
                self.on_report(worker)
            case "debuggable" | "undebuggable":
                if worker is self.starting:  # it waited for that, while debugpy listened in it
                    worker.timers.append(self._place.loop.later(LOOK_SECONDS, lambda: self._look_alone(worker)))
                self.on_debug(worker, message)
            case _:  # gone
                self._place.loop.later(0.5, lambda: self._lost(worker))

    def _bound(self, worker: Worker, key: Key, *, new: bool) -> None:
        if new:
            host = f"[{key[1]}]" if ":" in key[1] else key[1]
            self._place.emit("listening", address=f"{host}:{key[2]}")
        if worker is self.serving:
            worker.answered.add(key)
            self.listeners.route(worker.feeds)
        elif worker is self.starting:
            path = "" if self._probes else self._place.options.probe  # of the first socket
            self._probes[key] = Probe(self._place.loop, worker.feeds[key], path, lambda: self._answered(worker, key))

    def _accepted(self, worker: Worker, address: tuple[object, ...]) -> None:
        for key, probe in list(self._probes.items()):
            if worker is self.starting and key[1:] == address[:2]:
                probe.accepted()

    def _answered(self, worker: Worker, key: Key) -> None:
        worker.answered.add(key)
        if worker is not self.starting or worker.answered != worker.feeds.keys():
            return
        missing = self.serving is not None and self.serving.feeds.keys() - worker.feeds.keys()
        if missing:
            worker.timers.append(self._place.loop.later(MISSING_SECONDS, lambda: self._swap(worker)))
        else:
            self._swap(worker)

    def _look_alone(self, worker: Worker) -> None:
        """A server that binds without Python's sockets cannot be adopted: its next worker starts after its end."""
        if worker is not self.starting or worker.feeds:
            return
        if worker.pid and listens_itself(worker.pid):
            worker.alone = True
            self._place.emit("notice", text="the program listens by itself, so each change restarts it: requests wait")
            self._swap(worker)
        else:
            worker.timers.append(self._place.loop.later(LOOK_SECONDS, lambda: self._look_alone(worker)))

    def _swap(self, worker: Worker) -> None:
        """The new worker serves: give it the connections, and end the old one."""
        if worker is not self.starting:
            return
        self._close_probes()
        worker.cancel_timers()
        old, self.serving, self.starting = self.serving, worker, None
        self.listeners.route(worker.feeds)
        if old is not None:
            self.drain(old)
        self.on_ready(worker)

    def _close_probes(self) -> None:
        for probe in self._probes.values():
            probe.close()
        self._probes.clear()

    def _too_late(self, worker: Worker) -> None:
        if worker is self.starting:
            seconds = self._place.options.start_seconds
            worker.failure = worker.failure or {"message": f"it did not serve within {seconds:g} seconds"}
            self._fail(worker, None)

    # ends

    def _lost(self, worker: Worker) -> None:
        """A worker has closed its channel, and its end was not told; runs of tests end by themselves, however late."""
        if worker in self.all():
            self.ended(worker, None)

    def ended_pid(self, pid: int, code: int | None) -> bool:
        """A process has ended; whether it was a worker."""
        for worker in self.all():
            if worker.pid == pid:
                self.ended(worker, code)
                return True
        return False

    def ended(self, worker: Worker, code: int | None) -> None:
        """A worker has ended."""
        if worker.ended:
            return
        worker.ended = True
        worker.cancel_timers()
        worker.signal(signal.SIGKILL, group=True)  # what it left behind
        if worker is self.starting:
            self._fail(worker, code)
        elif worker is self.serving:
            self._crashed(worker, code)
        self.draining.discard(worker)
        self.calls.release(worker)
        if self._deferred is not None and not self.stopping and not any(one.alone for one in self.draining):
            deferred, self._deferred = self._deferred, None
            deferred()

    def _fail(self, worker: Worker, code: int | None) -> None:
        """A worker did not come to serve: say why, and let the old one serve on."""
        self.starting = None
        self._close_probes()
        self.calls.pass_errors(worker)
        serving = self.serving.number if self.serving is not None else None
        about = describe_failure(worker, code, self._place)
        self._place.emit("error", **about, generation=worker.number, serving=serving)
        if not worker.ended:
            self.draining.add(worker)
            self._kill(worker)

    def _crashed(self, worker: Worker, code: int | None) -> None:
        self.serving = None
        self.listeners.pause()
        if self.stopping:
            return
        about = {"code": code} if code is None or code >= 0 else {"signal": signal.Signals(-code).name}
        self._place.emit("exited", generation=worker.number, **about)
        now = time.monotonic()
        self._crashes = [at for at in self._crashes if now - at < CRASH_SECONDS] + [now]
        if len(self._crashes) > CRASHES:
            text = f"it ended {len(self._crashes)} times in {CRASH_SECONDS:g} seconds; the next change starts it again"
            self._place.emit("error", message=text, text=worker.tail.decode(errors="replace"), generation=worker.number)
            return
        if self.starting is not None:
            return
        if not self._family.can_fork():
            self.on_orphaned()
        else:
            self.start((), time.time(), pins=str(worker.pins or ""))
            self._mark_replacement(worker)

    def _mark_replacement(self, dead: Worker) -> None:
        if self.starting is not None:
            self.starting.how, self.starting.pins = "replaced", dead.pins


def describe_failure(worker: Worker, code: int | None, place: Place) -> Message:
    """Return file, line, message and text of a worker's failure, as far as they are known."""
    tail = worker.tail.decode(errors="replace")
    if worker.failure is not None:
        return {"text": tail, **{key: value for key, value in worker.failure.items() if key != "call"}}
    found = find_place(tail, place.trees.holds)
    ended = "it ended" if code is None else f"it ended with {code}" if code >= 0 else f"it was ended by signal {-code}"
    last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
    message = f"{last or ended} ({ended} before it served)" if last else f"{ended} before it served"
    return {**found, "message": message, "text": tail}


def find_place(text: str, holds: Callable[[str], bool]) -> Message:
    """Return file and line of the last frame of a traceback in a text that lies in the application's files."""
    found: Message = {}
    for line in text.splitlines():
        words = line.strip()
        if not words.startswith('File "'):
            continue
        path, _, rest = words[6:].partition('", line ')
        number = rest.partition(",")[0].strip()
        if number.isdigit() and os.path.isabs(path) and holds(path):  # noqa: PTH117
            found = {"file": path, "line": int(number)}
    return found
