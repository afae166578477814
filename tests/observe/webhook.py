"""A receiver of Alertmanager's webhooks, and Prometheus with Alertmanager from Debian, on free ports of loopback."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.waiting import wait_until


@dataclass(slots=True, kw_only=True)
class Receiver:
    """What was told: each alert by name and status, and the headers it came with."""

    port: int
    alerts: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def told(self, name: str, status: str = "firing") -> bool:
        """Whether an alert was told."""
        return any((one["labels"]["alertname"], one["status"]) == (name, status) for one in self.alerts)


@contextmanager
def receiving(address: str = "127.0.0.1") -> Iterator[Receiver]:
    """Receive webhooks for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.tokens.add(self.headers.get("Authorization", ""))
            receiver.alerts += body["alerts"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    receiver = Receiver(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(argv: tuple[str, ...], folder: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for the length of the block, from when its address ``ready`` answers."""
    with (folder / f"{Path(argv[0]).name}.log").open("ab") as log:
        child = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(ready) or child.poll() is not None)
        assert child.poll() is None, (folder / f"{Path(argv[0]).name}.log").read_text()
        yield child
    finally:
        child.terminate()
        child.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)
