"""The control socket: requests and events, a line of JSON each."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .loop import Loop

LIMIT = 16 * 1024 * 1024
"""Bytes of one request: ten thousand long paths fit."""

Json = dict[str, Any]


class RequestError(Exception):
    """A request cannot be understood; the text says why."""


def parse_request(line: bytes) -> Json:
    """Return a request as sent, checked. Raises RequestError."""
    try:
        request = json.loads(line)
    except ValueError:
        raise RequestError("a request is one line of JSON") from None
    name = request.get("request") if isinstance(request, dict) else None
    if name not in {"watch", "changed", "status", "test", "cancel", "restart"}:
        raise RequestError(f"unknown request: {str(name)[:100]}")
    for key in ("paths", "args", "touched"):
        values = request.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise RequestError(f"{name}: {key} is a list of texts")
    if not isinstance(request.get("at", 0), (int, float)):
        raise RequestError(f"{name}: at is a number of seconds")
    return dict(request)


def make_event(name: str, **values: Any) -> Json:
    """Return an event; values that are None are left out."""
    given = {key: value for key, value in values.items() if value is not None}
    return {"event": name, "at": round(time.time(), 3), **given}


def render_line(value: Json) -> bytes:
    """Return an event as a line."""
    return json.dumps(value).encode() + b"\n"


class Client:
    """One connection to the control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.watches = False
        self.waiting = b""
        self.unsent = b""


class Control:
    """Listens, hands requests on, and sends every event to every client."""

    def __init__(self, loop: Loop, path: Path | None, take: Callable[[Client, Json], None]) -> None:
        self._loop, self._path, self._take = loop, path, take
        self.clients: list[Client] = []
        self._past: dict[str, Json] = {}
        if path is None:
            return
        path.unlink(missing_ok=True)  # of an earlier start; its name is ours
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        os.chmod(path, 0o666)  # noqa: S103, PTH101 - the folder decides who gets in: on the host it is another user
        self._socket.listen()
        self._socket.setblocking(False)
        loop.read(self._socket, self._accept)

    def emit(self, name: str, to: Client | None = None, **values: Any) -> None:
        """Send an event to one client or to all."""
        event = make_event(name, **values)
        if to is None and name in {"started", "listening", "reloaded", "error"}:
            about = {"listening": f"listening at {values.get('address')}", "error": "outcome", "reloaded": "outcome"}
            self._past[about.get(name, name)] = {**event, "past": True}
        line = render_line(event)
        for client in [to] if to is not None else list(self.clients):
            self._send(client, line)

    def close(self) -> None:
        """Send what is left, and take the socket away."""
        for client in list(self.clients):
            client.socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        client = Client(sock)
        self.clients.append(client)
        self._loop.read(sock, lambda: self._read(client))
        for event in self._past.values():
            self._send(client, render_line(event))

    def _read(self, client: Client) -> None:
        try:
            data = client.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(client.waiting) > LIMIT:
            self._drop(client)
            return
        *lines, client.waiting = (client.waiting + data).split(b"\n")
        for line in filter(None, lines):
            try:
                request = parse_request(line)
            except RequestError as error:
                self.emit("refused", client, message=str(error))
            else:
                self._take(client, request)

    def _send(self, client: Client, line: bytes) -> None:
        """Send without waiting: a client that does not read for long is dropped."""
        client.unsent += line
        if len(client.unsent) > LIMIT:
            self._drop(client)
            return
        self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            while client.unsent:
                client.unsent = client.unsent[client.socket.send(client.unsent) :]
        except BlockingIOError:
            self._loop.later(0.02, lambda: self._flush(client))
        except OSError:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
            self._loop.forget(client.socket)
            client.socket.close()
