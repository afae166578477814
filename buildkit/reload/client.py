"""Passes lines between standard input and output and the control socket: for hosts that cannot connect to it."""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path


def run_client(path: Path) -> int:
    """Pass lines through until either side ends; 1 where nobody listens."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError as error:
            sys.stderr.write(f"error: {path}: {error.strerror}\n")
            return 1
        sources = [sock.fileno(), 0]
        while True:
            for source in select.select(sources, (), ())[0]:
                data = os.read(source, 65536)
                if not data:
                    return 0
                if source == 0:
                    sock.sendall(data)
                else:
                    _write_all(1, data)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
