"""The host's side of a reloader: tells it what changed, and hears its events; ``buildkit/reload`` is the other."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_RETRY = 0.05  # seconds between attempts to connect
_LONGEST = 1 << 20  # bytes of a line; what is longer is not the reloader's
Event = Mapping[str, Any]


class ReloadClient:
    """Keeps a connection to the socket ``path``, also when the container is replaced; ``hear`` gets its events.

    ``hear`` is called in a thread of this client, with objects that have a text under ``event``. One that ``watches``
    tells of every change, so that the reloader need not look for them.
    """

    def __init__(self, path: Path, hear: Callable[[Event], None], *, watches: bool = False) -> None:
        self._path = path
        self._watches = watches
        self._hear = hear
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self.losses = 0
        """How many connections have ended: an answer that was expected then does not come any more."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, request: str, **parts: Any) -> bool:  # noqa: ANN401 - JSON values
        """Send a request; False if there is no connection at present."""
        line = json.dumps({"request": request, **parts}).encode() + b"\n"
        with self._lock:
            if self._connection is None:
                return False
            try:
                self._connection.sendall(line)
            except OSError:
                return False
        return True

    def changed(self, paths: Sequence[str], at: float) -> bool:
        """Tell that files changed, by their paths in the container; ``at`` is the time, in seconds since the epoch."""
        return self.send("changed", paths=list(paths), at=at)

    def close(self) -> None:
        """End the connection."""
        self._stop.set()
        with self._lock:
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError), _connected(self._path) as connection:
                if self._watches:
                    connection.sendall(b'{"request": "watch"}\n')
                with self._lock:
                    self._connection = connection
                try:
                    self._listen(connection)
                finally:
                    with self._lock:
                        self._connection = None
                        self.losses += 1
            self._stop.wait(_RETRY)

    def _listen(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            while line := lines.readline(_LONGEST):
                with suppress(ValueError, TypeError, OverflowError, RecursionError):  # the application may write here
                    event = json.loads(line)
                    if isinstance(event, dict) and isinstance(event.get("event"), str):
                        self._hear(event)


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    """Connect to a socket by any path: the kernel takes no path of more than 107 bytes, but one below /proc/self/fd."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            yield connection
    finally:
        os.close(folder)
