"""What process 1 holds of its parents of workers and of its workers."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .channel import Channel, Closed, Message, make_pair
from .listeners import Feed, Key, Listeners, make_feed
from .loop import Loop, Timer

TAIL = 16_384
"""Bytes of a worker's standard error that are kept for the message about its end."""

_CHANNEL = 3


class Parent:
    """A process that forks: its channel, and who waits for its answers."""

    def __init__(self, loop: Loop, channel: Channel, take: Callable[[Parent, Message], None]) -> None:
        self.pid = 0
        self.is_closed = False
        self._loop, self._channel, self._take = loop, channel, take
        self._forks: list[Callable[[int], None]] = []
        loop.read(channel, self._read)

    def send(self, order: Message, descriptors: Sequence[int] = ()) -> None:
        """Give an order; one to a dead parent is forgotten, for its end is told."""
        with contextlib.suppress(Closed):
            self._channel.send(order, descriptors)

    def fork_parent(self, take: Callable[[Parent, Message], None]) -> Parent:
        """Return a parent forked from this one."""
        ours, theirs = make_pair()
        made = Parent(self._loop, ours, take)
        self._forks.append(lambda pid: setattr(made, "pid", pid))
        self.send({"order": "parent"}, [theirs.fileno()])
        theirs.close()
        return made

    def fork_worker(self, worker: Worker, descriptors: Sequence[int]) -> None:
        """Fork a worker, which gets these descriptors."""
        self._forks.append(lambda pid: setattr(worker, "pid", pid))
        self.send({"order": "worker"}, descriptors)

    def close(self) -> None:
        """Let it end; its workers live on."""
        if not self.is_closed:
            self.is_closed = True
            self._loop.forget(self._channel)
            self._channel.close()

    def _read(self) -> None:
        try:
            message, _ = self._channel.receive()
        except Closed:
            self.close()
            self._take(self, {"event": "closed"})
            return
        if message["event"] == "forked":
            self._forks.pop(0)(message["pid"])
        else:
            self._take(self, message)


def spawn_parent(loop: Loop, argv: Sequence[str], about: Message, take: Callable[[Parent, Message], None]) -> Parent:
    """Start the first parent: an interpreter that runs this folder."""
    ours, theirs = make_pair()
    command = (*argv, "--parent", str(_CHANNEL), json.dumps(about))
    actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), _CHANNEL)]
    if theirs.fileno() == _CHANNEL:
        actions = []
        os.set_inheritable(_CHANNEL, True)
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setpgroup=0, setsigdef=_SIGNALS)
    theirs.close()
    made = Parent(loop, ours, take)
    made.pid = pid
    return made


_SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE]


@dataclass(slots=True, eq=False)
class Worker:
    """A worker: its process, its ways of talking, and the sockets that it asked for."""

    orders: Channel
    calls: Channel
    errors: int
    pid: int = 0
    number: int = 0
    files: tuple[str, ...] = ()
    since: float = 0.0
    how: str = "fork"
    feeds: dict[Key, Feed] = field(default_factory=dict)
    answered: set[Key] = field(default_factory=set)
    failure: Message | None = None
    tail: bytes = b""
    gentle: bool = False
    alone: bool = False
    asked_to_end: bool = False
    ended: bool = False
    debug_port: int = 0
    pins: Path | None = None
    timers: list[Timer] = field(default_factory=list)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to all that it started, if they still are."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if group else os.kill)(self.pid, number)

    def order(self, message: Message) -> None:
        """Give an order; one to a dead worker is forgotten."""
        with contextlib.suppress(Closed):
            self.orders.send(message)

    def cancel_timers(self) -> None:
        """Forget what was to be done about it later."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


def make_worker(parent: Parent, *, output: int | None = None) -> Worker:
    """Fork a worker that waits for the word to go; ``output`` becomes its standard output and error."""
    orders, their_orders = make_pair()
    calls, their_calls = make_pair()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    worker = Worker(orders, calls, reading)
    descriptors = [their_orders.fileno(), their_calls.fileno(), writing if output is None else output]
    parent.fork_worker(worker, descriptors if output is None else [*descriptors, output])
    os.close(writing)
    for end in (their_orders, their_calls):
        end.close()
    return worker


class Calls:
    """Answers the calls of workers, and passes on their standard error."""

    def __init__(self, loop: Loop, listeners: Listeners, take: Callable[[Worker, Message], None]) -> None:
        self._loop, self._listeners, self._take = loop, listeners, take

    def attend(self, worker: Worker) -> None:
        """Read from a worker until it is released."""
        self._loop.read(worker.calls, lambda: self._read(worker))
        self._loop.read(worker.errors, lambda: self.pass_errors(worker))

    def release(self, worker: Worker) -> None:
        """Close what belongs to a worker that has ended."""
        self.pass_errors(worker)
        for source in (worker.calls, worker.errors):
            self._loop.forget(source)
        if worker.errors >= 0:
            os.close(worker.errors)
            worker.errors = -1
        worker.calls.close()
        worker.orders.close()
        for feed in worker.feeds.values():
            feed.end.close()

    def _read(self, worker: Worker) -> None:
        try:
            message, _ = worker.calls.receive()
        except Closed:
            self._loop.forget(worker.calls)
            self._take(worker, {"call": "gone"})
            return
        if message["call"] == "bind":
            self._bind(worker, message)
        elif message["call"] == "failed":
            worker.failure = message
            with contextlib.suppress(Closed):
                worker.calls.send({})
        else:
            self._take(worker, message)

    def _bind(self, worker: Worker, message: Message) -> None:
        """Open a socket if that is new, and send the worker's end of its feed."""
        host, port = message["address"][:2]
        key: Key = (message["family"], host, port)
        try:
            if key in worker.feeds:
                raise OSError(errno.EADDRINUSE, "bound already")
            new = self._listeners.open(key, only_ipv6=message["only"])
        except OSError as error:
            with contextlib.suppress(Closed):
                worker.calls.send({"errno": error.errno or errno.EADDRNOTAVAIL})
            return
        feed, theirs = make_feed()
        worker.feeds[key] = feed
        worker.gentle = bool(message["gentle"])
        with contextlib.suppress(Closed):
            worker.calls.send({"errno": 0}, [theirs.fileno()])
        theirs.close()
        self._take(worker, {"call": "bound", "key": key, "new": new})

    def pass_errors(self, worker: Worker) -> None:
        """Write what has come of a worker's standard error, and keep its end."""
        while worker.errors >= 0:
            try:
                data = os.read(worker.errors, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self._loop.forget(worker.errors)
                os.close(worker.errors)
                worker.errors = -1
                return
            worker.tail = (worker.tail + data)[-TAIL:]
            with contextlib.suppress(OSError):
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()


def become_subreaper() -> None:
    """Have children of ended children given to this process, as process 1 has; where ctypes is there to ask for it."""
    if os.getpid() == 1:
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER of linux/prctl.h


def listens_itself(pid: int) -> bool:
    """Whether a process has a listening TCP socket of its own."""
    listening = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text("ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == "0A":  # TCP_LISTEN of net/tcp_states.h
                    listening.add(f"socket:[{words[9]}]")
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{name}") in listening:  # noqa: PTH115
                    return True
    return False


def peek(sock: socket.socket, size: int) -> Any:
    """Return what has come on a socket that does not block: bytes, empty at its end, None if nothing has come yet."""
    try:
        return sock.recv(size)
    except BlockingIOError:
        return None
    except OSError:
        return b""
