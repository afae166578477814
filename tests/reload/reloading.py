"""Starts the reloader with an application, follows its events, and asks the application."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import take_port

FOLDER = Path(__file__).parents[2] / "buildkit/reload"
LIMIT = 60.0
"""Seconds that anything may take on a busy machine: no figure, only the end of a test that hangs."""

Event = dict[str, Any]


@dataclass
class Reloader:
    """A running reloader: its process, its events so far, and the folder of the application."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    folder: Path
    port: int
    log: Path
    events: list[Event] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def follow(self) -> None:
        with self.control.makefile("rb") as lines:
            for line in lines:
                with self.arrived:
                    self.events.append(json.loads(line))
                    self.arrived.notify_all()

    def ask(self, request: str, **values: Any) -> None:
        self.control.sendall(json.dumps({"request": request, **values}).encode() + b"\n")

    def wait(self, name: str, after: int = 0, check: Callable[[Event], bool] = lambda _: True) -> Event:
        """Return the first event of a name, later than `after` others."""
        with self.arrived:
            until = time.monotonic() + LIMIT
            while True:
                for event in self.events[after:]:
                    if event["event"] == name and check(event):
                        return event
                if not self.arrived.wait(max(0.0, until - time.monotonic())) and time.monotonic() >= until:
                    raise AssertionError(f"no {name} among {self.events}; {self.log.read_text()}")

    def save(self, name: str, text: str) -> Event:
        """Write a file, say so, and return the outcome."""
        after = len(self.events)
        path = self.folder / name
        path.write_text(text)
        self.ask("changed", paths=[str(path)], at=time.time())
        outcomes = {"reloaded", "error", "restarted", "unaffected", "replace"}
        with self.arrived:
            until = time.monotonic() + LIMIT
            while True:
                for event in self.events[after:]:
                    if event["event"] in outcomes:
                        return event
                assert self.arrived.wait(until - time.monotonic()), f"{self.events}; {self.log.read_text()}"

    def get(self, path: str = "/") -> Any:
        status, body = self.request(path)
        assert status == 200, (status, body)
        return json.loads(body)

    def request(self, path: str = "/") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT)


def members(folder: Path) -> list[int]:
    """Return the processes whose command or working folder names a test's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str(folder) in (entry / "cmdline").read_text() or str((entry / "cwd").readlink()).startswith(
                    str(folder)
                ):
                    found.append(int(entry.name))
    return found


def stay(folder: Path) -> list[int]:
    """Return the members that are still there when killed processes have had time to vanish."""
    until = time.monotonic() + LIMIT
    while (found := members(folder)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def run_reloader(
    folder: Path, files: dict[str, str], command: list[str], *options: str, watch: bool = True
) -> Iterator[Reloader]:
    """Start the reloader in a folder with these files; `PORT` in the command becomes a free port."""
    app = folder / "app"
    app.mkdir(exist_ok=True)
    for name, text in files.items():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(text)
    port = take_port()
    control, log = folder / "c", folder / "log"
    words = [word.replace("PORT", str(port)) for word in command]
    argv = [sys.executable, str(FOLDER), "--control", str(control), "--state", str(folder / "state"), *options]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen([*argv, "--", *words], cwd=app, env=environ, stdout=output, stderr=output)
    try:
        reloader = Reloader(process, _connect(control, process, log), app, port, log)
        threading.Thread(target=reloader.follow, daemon=True).start()
        if watch:
            reloader.ask("watch")
        yield reloader
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(LIMIT)
        reloader.control.close()


def _connect(path: Path, process: subprocess.Popen[bytes], log: Path) -> socket.socket:
    until = time.monotonic() + LIMIT
    while time.monotonic() < until and process.poll() is None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            time.sleep(0.01)
        else:
            return sock
    raise AssertionError(log.read_text())
