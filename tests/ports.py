"""Ports of this host for programs that a test starts: nothing else takes them before the program does."""

from __future__ import annotations

import random
import socket

_PORTS = range(20_000, 32_768)  # the kernel gives those above to whoever connects, or asks for any
_held: list[socket.socket] = []


def take_port() -> int:
    """Return a free port of 127.0.0.1; while this process lives, no test of this host is given it again."""
    while True:
        port = random.choice(_PORTS)
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0buildkit-tests-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:  # another test has it, or another program
            mark.close()
        else:
            _held.append(mark)
            return port


def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Return whether a program accepts connections at a port."""
    try:
        socket.create_connection((address, port)).close()
    except ConnectionRefusedError:
        return False
    return True
