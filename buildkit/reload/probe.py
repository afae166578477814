"""Asks one worker, over a connection that only it gets, whether it serves."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from .handles import peek
from .listeners import Feed, make_connection
from .loop import Loop

AGAIN = 0.02
"""Seconds between two requests."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Probe:
    """Knocks at a worker's socket; with a path, asks until the answer is below 400."""

    def __init__(self, loop: Loop, feed: Feed, path: str, done: Callable[[], None]) -> None:
        self._loop, self._feed, self._path, self._done = loop, feed, path, done
        self._socket: socket.socket | None = None
        self._answer = b""
        self._ended = False
        self._knock()

    def accepted(self) -> None:
        """The worker has taken the connection: without a path that is all that is asked."""
        if not self._path:
            self._finish()

    def close(self) -> None:
        """Ask no more."""
        self._ended = True
        self._hang_up()

    def _knock(self) -> None:
        if self._ended:
            return
        self._socket, theirs, peer = make_connection()
        if not self._feed.send(theirs, peer):
            theirs.close()
            self._hang_up()
            self._loop.later(AGAIN, self._knock)
            return
        if self._path:
            self._answer = b""
            self._socket.send(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            self._loop.read(self._socket, self._read)

    def _read(self) -> None:
        if self._socket is None:
            return
        data = peek(self._socket, 4096)
        if data is None:
            return
        self._answer += data
        status = _STATUS.match(self._answer)
        if status is None and data and len(self._answer) < 32:
            return
        self._hang_up()
        if status is not None and int(status[1]) < 400:
            self._finish()
        elif not self._ended:
            self._loop.later(AGAIN, self._knock)

    def _finish(self) -> None:
        if not self._ended:
            self.close()
            self._done()

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None
