"""The connection to a reloader: kept, also when the other end comes late or goes away."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from buildkit.develop.dev_home import find_home
from buildkit.develop.dev_use import run_tests
from buildkit.develop.reload_client import Event, ReloadClient
from buildkit.errors import BuildError


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that is removed at the end."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield server
    path.unlink()


def read(connection: socket.socket) -> dict[str, Any]:
    with connection.makefile("rb") as lines:
        asked: dict[str, Any] = json.loads(lines.readline())
        return asked


def test_client_connects_when_the_socket_comes_and_again_after_its_end(tmp_path: Path) -> None:
    path, heard = tmp_path / "control", queue.SimpleQueue[Event]()
    client = ReloadClient(path, heard.put, watches=True)
    try:
        assert not client.changed(["/app/a.py"], 1.0), "nobody listens yet"
        with listening(path) as server:
            connection, _ = server.accept()
            with connection:
                assert read(connection) == {"request": "watch"}
                connection.sendall(b'no json\n[1]\n{"event": 1}\n{"event": "listening"}\n')
                assert heard.get(timeout=60) == {"event": "listening"}
                while not client.changed(["/app/a.py"], 1.5):
                    pass
                assert read(connection) == {"request": "changed", "paths": ["/app/a.py"], "at": 1.5}
            again, _ = server.accept()
            with again:
                assert read(again) == {"request": "watch"}
    finally:
        client.close()


def test_an_event_that_cannot_be_used_does_not_end_the_client(tmp_path: Path) -> None:
    path, heard = tmp_path / "control", queue.SimpleQueue[int]()
    with listening(path) as server:
        client = ReloadClient(path, lambda event: heard.put(int(event["code"])))
        connection, _ = server.accept()
        with connection:
            for code in ("[]", "1e999", '"x"', "7"):
                connection.sendall(b'{"event": "tested", "code": %s}\n' % code.encode())
            assert heard.get(timeout=60) == 7
            client.close()


def test_client_that_only_asks_does_not_watch(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with listening(path) as server:
        client = ReloadClient(path, lambda _event: None)
        connection, _ = server.accept()
        with connection:
            while not client.send("test", args=["-q"], run="1"):
                pass
            assert read(connection) == {"request": "test", "args": ["-q"], "run": "1"}
            client.close()


def test_tests_whose_container_ends_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    path = find_home(tmp_path) / "run-1/control/app/control"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(path.parent)  # a socket's path is short
        server.bind("control")
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                assert read(connection)["request"] == "test"

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(BuildError, match="the container ended before its tests did"):
            run_tests(tmp_path, "dev", ["-q"])
        thread.join()
