"""A debugger's way to the worker that serves: one port for all of them, which costs nothing while nobody attaches.

Process 1 listens. When a debugger connects, the worker imports debugpy and listens on a port of its own, and the bytes
are passed on. When another worker takes over, the debugger is told that its session ended and is to be started again
(``terminated`` with ``restart`` of the Debug Adapter Protocol): it comes back at once, to the new worker.
"""

from __future__ import annotations

import json
import socket
import sys

from .channel import Message
from .family import Place
from .generations import Generations
from .handles import Worker, peek

RESTART = json.dumps({"seq": 1_000_000_000, "type": "event", "event": "terminated", "body": {"restart": True}})


class _Session:
    """A debugger's connection, and that to the worker's adapter."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.adapter: socket.socket | None = None
        self.worker: Worker | None = None
        self.ahead = b""  # what the debugger sent before there was an adapter
        self.partial = b""  # of a message to the debugger


def split_messages(data: bytes) -> tuple[bytes, bytes]:
    """Return the complete messages of a stream of the protocol, and the beginning of the next."""
    done = 0
    while True:
        head, mark, _ = data[done:].partition(b"\r\n\r\n")
        if not mark:
            return data[:done], data[done:]
        sizes = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        if not sizes or not sizes[0].strip().isdigit():
            return data, b""  # not the protocol: pass on what comes
        end = done + len(head) + 4 + int(sizes[0])
        if end > len(data):
            return data[:done], data[done:]
        done = end


def render_message(text: str) -> bytes:
    """Return a message of the protocol."""
    body = text.encode()
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class Debugger:
    """Listens for debuggers, and passes on what they and the worker say."""

    def __init__(self, place: Place, generations: Generations) -> None:
        self._place, self._generations = place, generations
        self._sessions: list[_Session] = []
        self._listening: socket.socket | None = None
        if place.options.debug is None:
            return
        try:
            self._listening = socket.create_server(place.options.debug)
        except OSError as error:
            text = f"no debugger can attach: {place.options.debug}: {error.strerror}"
            place.emit("notice", text=text)
            return
        self._listening.setblocking(False)
        place.loop.read(self._listening, self._accept)

    def take(self, worker: Worker, message: Message) -> None:
        """A worker has a debugger's port, or cannot have one."""
        if message["call"] == "undebuggable":
            self._place.emit("notice", text=f"no debugger can attach: {message['why']}")
            for session in list(self._sessions):
                self._end(session)
            return
        worker.debug_port = message["port"]
        if worker not in (self._generations.serving, self._generations.starting):
            return  # `moved` has asked the next one
        if worker is self._generations.starting and self._place.options.wait:
            self._place.emit("debugger", state="waiting")
        for session in self._sessions:
            if session.adapter is None:
                self._connect(session, worker)

    def moved(self, worker: Worker) -> None:
        """Another worker serves: bring the debuggers there."""
        for session in list(self._sessions):
            if session.worker is not None and session.worker is not worker:
                self._tell_restart(session)
                self._end(session)
            elif session.worker is None:
                self._ask(worker)

    def stop(self) -> None:
        """End all sessions."""
        for session in list(self._sessions):
            self._end(session)
        if self._listening is not None:
            self._place.loop.forget(self._listening)
            self._listening.close()

    def _accept(self) -> None:
        if self._listening is None:
            return
        try:
            client, _ = self._listening.accept()
        except BlockingIOError:
            return
        client.setblocking(False)
        session = _Session(client)
        self._sessions.append(session)
        self._place.loop.read(client, lambda: self._from_client(session))
        starting = self._generations.starting
        worker = starting if starting is not None and starting.debug_port else self._generations.serving
        if worker is None:
            return  # `moved` asks the next one
        if worker.debug_port:
            self._connect(session, worker)
        else:
            self._ask(worker)

    def _ask(self, worker: Worker) -> None:
        worker.order({"order": "debug"})

    def _connect(self, session: _Session, worker: Worker) -> None:
        try:
            session.adapter = socket.create_connection(("127.0.0.1", worker.debug_port), 2.0)
        except OSError as error:
            sys.stderr.write(f"reload: the debugger's adapter does not answer: {error}\n")
            self._end(session)
            return
        session.worker = worker
        self._place.loop.read(session.adapter, lambda: self._from_adapter(session))
        if session.ahead:
            session.adapter.sendall(session.ahead)
        self._place.emit("debugger", state="attached")

    def _from_client(self, session: _Session) -> None:
        data = peek(session.client, 1 << 16)
        if data is None:
            return
        if not data:
            self._end(session)
        elif session.adapter is None:
            session.ahead += data
        else:
            self._send(session, session.adapter, data)

    def _from_adapter(self, session: _Session) -> None:
        if session.adapter is None:
            return
        try:
            data = session.adapter.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._end(session)
            return
        complete, session.partial = split_messages(session.partial + data)
        self._send(session, session.client, complete)

    def _tell_restart(self, session: _Session) -> None:
        self._send(session, session.client, render_message(RESTART))

    def _send(self, session: _Session, to: socket.socket, data: bytes) -> None:
        """Send all; messages are small, and a debugger reads."""
        try:
            to.settimeout(2.0)
            to.sendall(data)
            to.setblocking(to is not session.client)
        except OSError:
            self._end(session)

    def _end(self, session: _Session) -> None:
        if session not in self._sessions:
            return
        self._sessions.remove(session)
        for sock in (session.client, session.adapter):
            if sock is not None:
                self._place.loop.forget(sock)
                sock.close()
        if session.worker is not None:
            self._place.emit("debugger", state="detached")
