"""The load: a real server gets the requests in turn, and answers are counted as they are."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from buildkit.profiling.load import ask_once, sending
from buildkit.profiling.requests_file import ServiceRequest
from tests.waiting import wait_until

SEEN: Counter[tuple[str, str, bytes, str]] = Counter()


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        SEEN[self.command, self.path, body, self.headers.get("X-Id", "")] += 1
        self.send_response(503 if self.path == "/busy" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        if self.path == "/cut":
            self.close_connection = True

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    SEEN.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_requests_are_sent_in_turn_by_all_clients_and_counted(port: int) -> None:
    requests = (
        ServiceRequest(target="/a?b"),
        ServiceRequest(method="POST", target="/cut", body=b"body", headers=(("X-Id", "7"),)),
        ServiceRequest(target="/busy"),
    )
    with sending(port, requests, 2) as counts:
        wait_until(lambda: counts.answered >= 60)
    assert set(SEEN) == {("GET", "/a?b", b"", ""), ("POST", "/cut", b"body", "7"), ("GET", "/busy", b"", "")}
    assert counts.answers.total() == SEEN.total()
    assert counts.failed == counts.answers["503"] == SEEN["GET", "/busy", b"", ""]
    assert max(SEEN.values()) - min(SEEN.values()) <= 4, "each client sends them in turn"
    median = counts.as_json()["median"]
    assert isinstance(median, float)
    assert median > 0


def test_a_service_that_is_gone_is_counted_and_not_flooded(port: int) -> None:
    assert ask_once(port, ServiceRequest(target="/busy")) == 503
    assert ask_once(1, ServiceRequest()) == 0
    with sending(1, (ServiceRequest(),), 1) as counts:
        wait_until(lambda: counts.answers["error"] >= 2)
    assert counts.failed == counts.answered <= counts.seconds / 0.05 + 1
    assert counts.as_json()["median"] is None
