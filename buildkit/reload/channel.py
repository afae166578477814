"""Messages between the reloader's own processes: JSON with file descriptors, over pairs of local sockets."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterable
from typing import Any

LIMIT = 60_000
"""Bytes of one message. What may be longer travels as a file that the message names."""

Message = dict[str, Any]


class Closed(Exception):
    """The process at the other end is gone."""


class Channel:
    """One end of a pair of sockets that keeps the bounds of messages."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor, for selectors."""
        return self.socket.fileno()

    def send(self, message: Message, descriptors: Iterable[int] = ()) -> None:
        """Send a message; descriptors stay open here. Raises Closed where nobody can receive it."""
        data = json.dumps(message).encode()
        try:
            socket.send_fds(self.socket, [data], list(descriptors))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def receive(self) -> tuple[Message, list[int]]:
        """Return the next message and its descriptors, which are not inherited by other programs.

        Raises Closed at the end, and BlockingIOError where the socket does not block and nothing has come.
        """
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, LIMIT + 4096, 8)
        except ConnectionResetError as error:
            raise Closed from error
        if not data:
            raise Closed
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        message: Message = json.loads(data)
        return message, descriptors

    def ask(self, message: Message) -> tuple[Message, list[int]]:
        """Send a message and return the answer; threads wait for each other."""
        with self._lock:
            self.send(message)
            return self.receive()

    def close(self) -> None:
        """Close this end."""
        self.socket.close()


def make_pair() -> tuple[Channel, Channel]:
    """Return both ends of a new channel."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(other)
