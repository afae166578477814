"""A TCP proxy in front of a registry that counts bytes in each direction and changes none.

The kernel moves the bytes between the sockets (splice(2)), so counting costs next to nothing."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes sent to the registry (``up``) and received from it (``down``), requests and headers included."""

    up: int = 0
    down: int = 0

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.up - other.up, self.down - other.down)


class CountingProxy:
    """Listen on loopback at ``host`` (``127.0.0.1:PORT``) and forward to ``behind``, one thread per direction."""

    def __init__(self, server: socket.socket, behind: tuple[str, int]) -> None:
        self._server = server
        self._behind = behind
        self._lock = threading.Lock()
        self._passed = {"up": 0, "down": 0}
        self.host = f"127.0.0.1:{server.getsockname()[1]}"

    @property
    def traffic(self) -> Traffic:
        """Bytes so far."""
        with self._lock:
            return Traffic(**self._passed)

    def serve(self) -> None:
        """Accept connections until the server socket is shut down."""
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                registry = socket.create_connection(self._behind)
            except OSError:
                client.close()
                continue
            for passing in (client, registry):  # or a small piece waits 40 ms for an acknowledgement
                passing.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(client, registry)
            for way, source, target in (("up", client, registry), ("down", registry, client)):
                threading.Thread(target=self._pass, args=(way, source, target, pair), daemon=True).start()

    def _pass(self, way: str, source: socket.socket, target: socket.socket, pair: _Pair) -> None:
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIECE)
        try:
            with suppress(OSError):  # one side hung up; the shutdown below tells the other
                while count := os.splice(source.fileno(), writing, _PIECE):
                    with self._lock:
                        self._passed[way] += count
                    while count:
                        count -= os.splice(reading, target.fileno(), count)
        finally:
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)
            os.close(reading)
            os.close(writing)
            pair.leave()


class _Pair:
    """Two sockets, closed when both directions have ended."""

    def __init__(self, *sockets: socket.socket) -> None:
        self._sockets = sockets
        self._lock = threading.Lock()
        self._ways = len(sockets)

    def leave(self) -> None:
        with self._lock:
            self._ways -= 1
            if self._ways:
                return
        for connection in self._sockets:
            connection.close()


@contextmanager
def open_counting_proxy(behind: tuple[str, int]) -> Iterator[CountingProxy]:
    """Start a proxy in front of the server at ``behind`` (address and port)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = CountingProxy(server, behind)
        thread = threading.Thread(target=proxy.serve, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
