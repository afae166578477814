"""Listening sockets of a worker that are really the reloader's: ``bind`` asks for one, ``accept`` gets its connections.

Process 1 listens and accepts. A worker's socket is one end of a local pair over which connections arrive, ready for
the same calls as a listening socket: it becomes readable when there is a connection, and blocks if it may. So a server
keeps its own settings and code, and process 1 decides for each connection which worker answers it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

Address = tuple[Any, ...]
Ask = Callable[[int, Address, bool], tuple[int, int]]
"""Takes family, address, and whether IPv6 alone is meant; returns a descriptor and 0, or -1 and an error number."""


class AdoptedSockets:
    """Replaces methods of ``socket.socket`` in this process, for TCP sockets that are bound to a port."""

    def __init__(self, ask: Ask, accepted: Callable[[Address], None]) -> None:
        self._ask = ask
        self._accepted: Callable[[Address], None] = accepted
        self._addresses: dict[int, Address] = {}
        self._seen: set[Address] = set()
        self._original = {name: getattr(socket.socket, name) for name in ("bind", "listen", "accept", "getsockname")}
        self._set_option = socket.socket.setsockopt

    def install(self) -> None:
        """Replace the methods."""
        adoption = self

        def bind(self: socket.socket, address: Any) -> None:
            adoption.bind(self, address)

        def listen(self: socket.socket, *backlog: int) -> None:
            if adoption.find(self) is None:
                adoption._original["listen"](self, *backlog)

        def accept(self: socket.socket) -> tuple[socket.socket, Any]:
            return adoption.accept(self)

        def getsockname(self: socket.socket) -> Any:
            return adoption.find(self) or adoption._original["getsockname"](self)

        def setsockopt(self: socket.socket, *words: Any) -> None:
            if words[:1] == (socket.SOL_SOCKET,) or adoption.find(self) is None:
                adoption._set_option(self, *words)

        for method in (bind, listen, accept, getsockname, setsockopt):
            setattr(socket.socket, method.__name__, method)

    def find(self, sock: socket.socket) -> Address | None:
        """Return the address for which an adopted socket stands, None for any other socket."""
        if not self._addresses or sock.fileno() < 0:
            return None
        return self._addresses.get(os.fstat(sock.fileno()).st_ino)

    def bind(self, sock: socket.socket, address: Any) -> None:
        """Bind a socket: by process 1 if it is TCP with a port. Raises OSError as the system call would."""
        inet = sock.family in {socket.AF_INET, socket.AF_INET6} and sock.type == socket.SOCK_STREAM
        if not inet or not isinstance(address, tuple) or not address[1]:
            self._original["bind"](sock, address)
            return
        only = sock.family == socket.AF_INET6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        descriptor, number = self._ask(sock.family, address, only)
        if number:
            raise OSError(number, f"{os.strerror(number)}: {address!r}")
        os.dup2(descriptor, sock.fileno(), inheritable=False)
        os.close(descriptor)
        sock.settimeout(sock.gettimeout())  # the new descriptor blocks; the socket may not
        self._addresses[os.fstat(sock.fileno()).st_ino] = tuple(address)

    def accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Return the next connection and its peer, as ``socket.accept`` does."""
        address = self.find(sock)
        if address is None:
            connection: tuple[socket.socket, Any] = self._original["accept"](sock)
            return connection
        data, descriptors, _, _ = socket.recv_fds(sock, 1024, 1, socket.MSG_CMSG_CLOEXEC)
        if not descriptors:
            time.sleep(0.05)  # process 1 is gone; a signal is on its way
            raise BlockingIOError
        made = socket.socket(sock.family, sock.type, sock.proto, fileno=descriptors[0])
        made.settimeout(socket.getdefaulttimeout())
        if address not in self._seen:
            self._seen.add(address)
            self._accepted(address)
        return made, tuple(json.loads(data))
