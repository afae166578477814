"""The listening sockets of process 1, and the way of each connection to the worker that answers it."""

from __future__ import annotations

import collections
import contextlib
import errno
import fcntl
import json
import socket
import struct
import termios
from dataclasses import dataclass, field
from typing import Any

from .loop import Loop

BACKLOG = 4096
AT_ONCE = 64

Key = tuple[int, str, int]
"""Family, host and port."""


@dataclass(slots=True)
class Feed:
    """The way to one worker's socket: process 1's end of the pair."""

    end: socket.socket

    def send(self, connection: socket.socket, peer: Any) -> bool:
        """Hand a connection over; False if it could not be: there is no room, or nobody is there."""
        try:
            socket.send_fds(self.end, [json.dumps(peer).encode()], [connection.fileno()])
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EPIPE, errno.ECONNRESET, errno.ENOBUFS, errno.ETOOMANYREFS}:
                return False
            raise
        connection.close()
        return True

    def is_empty(self) -> bool:
        """Whether the worker has accepted all that was sent."""
        try:
            (waiting,) = struct.unpack("i", fcntl.ioctl(self.end, termios.TIOCOUTQ, b"\0\0\0\0"))
        except OSError:
            return True
        return bool(waiting == 0)


@dataclass(slots=True)
class Listener:
    """A listening socket, where its connections go, and those that nobody could take yet."""

    sock: socket.socket
    feed: Feed | None = None
    held: collections.deque[tuple[socket.socket, Any]] = field(default_factory=collections.deque)
    is_read: bool = False
    retry: bool = False


class Listeners:
    """All listening sockets. A socket without a feed is not accepted from: the kernel holds its connections."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._by_key: dict[Key, Listener] = {}

    def open(self, key: Key, *, only_ipv6: bool) -> bool:
        """Listen there if that is not done yet; whether it is new. Raises OSError."""
        if key in self._by_key:
            return False
        family, host, port = key
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_ipv6))
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        self._by_key[key] = Listener(sock)
        return True

    def route(self, feeds: dict[Key, Feed]) -> None:
        """Send connections to these feeds from now on; sockets without one are closed."""
        for key in [known for known in self._by_key if known not in feeds]:
            self._close(self._by_key.pop(key))
        for key, feed in feeds.items():
            listener = self._by_key[key]
            listener.feed = feed
            self._resume(listener)

    def pause(self) -> None:
        """Let the kernel hold what comes, until `route`."""
        for listener in self._by_key.values():
            listener.feed = None
            self._stop_reading(listener)

    def close(self) -> None:
        """Close all."""
        for listener in self._by_key.values():
            self._close(listener)
        self._by_key.clear()

    def _close(self, listener: Listener) -> None:
        self._stop_reading(listener)
        listener.sock.close()
        for connection, _ in listener.held:
            connection.close()

    def _stop_reading(self, listener: Listener) -> None:
        if listener.is_read:
            self._loop.forget(listener.sock)
            listener.is_read = False

    def _resume(self, listener: Listener) -> None:
        """Hand over what is held, then what comes."""
        listener.retry = False
        while listener.held and listener.feed is not None:
            connection, peer = listener.held[0]
            if not listener.feed.send(connection, peer):
                self._wait(listener)
                return
            listener.held.popleft()
        if listener.feed is not None and not listener.is_read:
            self._loop.read(listener.sock, lambda: self._accept(listener))
            listener.is_read = True

    def _wait(self, listener: Listener) -> None:
        self._stop_reading(listener)
        if not listener.retry:
            listener.retry = True
            self._loop.later(0.005, lambda: self._resume(listener))

    def _accept(self, listener: Listener) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, peer = listener.sock.accept()
            except OSError:
                return  # nobody is waiting, or that client went away; out of descriptors, the next turn tries again
            connection.setblocking(True)
            if listener.feed is None or not listener.feed.send(connection, peer):
                listener.held.append((connection, peer))
                self._wait(listener)
                return


def make_feed() -> tuple[Feed, socket.socket]:
    """Return a feed, and the end that its worker gets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return Feed(ours), theirs


def make_connection() -> tuple[socket.socket, socket.socket, Any]:
    """Return both ends of a new TCP connection on the loopback, and the first one's address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        ours = socket.create_connection(listening.getsockname(), 1.0)
        theirs, peer = listening.accept()
    with contextlib.suppress(OSError):
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours.setblocking(False)
    return ours, theirs, peer
