"""The exporter's HTTP server, asked over real connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from buildkit.monitor import exporter
from buildkit.monitor.exporter import HttpReply, MonitorRequest, MonitorServer, is_local_name
from buildkit.monitor.metrics import OPENMETRICS, PROMETHEUS, gauge
from buildkit.monitor.state import MonitorState
from tests.waiting import wait_until

STATE = MonitorState(time=1.0, families=(gauge("x_bytes", "X.", ((("name", "a"),), 1)),))
LIMIT = 30


@contextmanager
def serve(
    state: Callable[[], MonitorState] = lambda: STATE, address: str = "127.0.0.1", **routes: exporter.Route
) -> Iterator[MonitorServer]:
    server = MonitorServer((address, 0), state, {f"/{name}": route for name, route in routes.items()})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(server: MonitorServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def raw(server: MonitorServer, request: bytes) -> bytes:
    """Everything that the server says until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_metrics_come_in_the_format_that_is_asked_for() -> None:
    with serve() as server:
        status, headers, body = ask(server, "/metrics?x=1")
        assert (status, headers["content-type"]) == (200, PROMETHEUS)
        assert body == b'# HELP x_bytes X.\n# TYPE x_bytes gauge\nx_bytes{name="a"} 1\n'
        assert headers["x-content-type-options"] == "nosniff"
        status, headers, body = ask(server, "/metrics", Accept="application/openmetrics-text;version=1.0.0")
        assert (status, headers["content-type"]) == (200, OPENMETRICS)
        assert body.startswith(b"# UNIT x_bytes bytes\n")
        assert body.endswith(b"# EOF\n")
        status, headers, body = ask(server, "/metrics", "HEAD")
        assert (status, int(headers["content-length"]) > 0, body) == (200, True, b"")


def test_health_says_what_is_wrong_and_other_paths_are_not_found() -> None:
    states = [STATE, MonitorState(time=1.0, problem="podman does not answer")]
    with serve(lambda: states.pop(0)) as server:
        assert ask(server, "/healthz")[::2] == (200, b"ok\n")
        assert ask(server, "/healthz")[::2] == (503, b"podman does not answer\n")
        assert ask(server, "/metrics/")[0] == 404
        assert ask(server, "/../../etc/passwd")[0] == 404
        assert ask(server, "/metrics", "POST")[0] == 501


def test_one_connection_serves_scrape_after_scrape() -> None:
    with serve() as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read()
            assert connection.sock is first
        connection.close()


def test_names_of_others_lead_nowhere() -> None:
    with serve() as server:
        for host in ("localhost", f"localhost:{server.port}", "127.0.0.1:1", "[::1]:99", "127.0.0.2"):
            assert ask(server, "/metrics", Host=host)[0] == 200, host
        for host in ("evil.example", "evil.example:80", "localhost.evil.example", "169.254.1.1", "127.0.0.1.evil", ""):
            assert ask(server, "/metrics", Host=host)[0] == 421, host
    assert is_local_name("[::1]")
    with serve(address="0.0.0.0") as server:  # in a container, services are asked by their names
        assert ask(server, "/metrics", Host="monitor:9469")[0] == 200


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this host has no IPv6")
def test_it_listens_on_ipv6() -> None:
    with serve(address="::1") as server:
        assert server.is_local
        connection = HTTPConnection("::1", server.port, timeout=LIMIT)
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 200
        connection.close()


def test_a_body_is_no_second_request() -> None:
    hidden = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    with serve() as server:
        assert raw(server, head + hidden).count(b"HTTP/1.1 ") == 1


def test_a_stream_is_sent_piece_by_piece_and_closed_when_its_reader_has_gone() -> None:
    go, closed = threading.Semaphore(0), threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            while go.acquire(timeout=LIMIT):
                yield b"x" * 10
        finally:
            closed.set()

    with serve(events=lambda _: HttpReply(body=pieces(), content_type="text/event-stream")) as server:
        assert ask(server, "/events", "HEAD")[2] == b""
        closed.clear()
        connection = HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        for _ in range(3):
            go.release()
            assert answer.read1(100) == b"x" * 10
        answer.close()
        connection.close()

        def goes() -> bool:
            go.release()
            return closed.is_set()

        wait_until(goes)


def test_a_route_is_given_path_query_and_headers() -> None:
    asked: list[MonitorRequest] = []

    def route(request: MonitorRequest) -> HttpReply:
        asked.append(request)
        return HttpReply(body=b"")

    with serve(events=route) as server:
        assert ask(server, "/events?a=b", **{"X-A": "b"})[0] == 200
    assert (asked[0].path, asked[0].query, asked[0].headers["x-a"]) == ("/events", "a=b", "b")


def test_connections_and_streams_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_CONNECTIONS", 3)
    monkeypatch.setattr(exporter, "_STREAMS", 1)
    hold = threading.Event()

    def forever(_request: MonitorRequest) -> HttpReply:
        return HttpReply(body=iter(lambda: b"x" if not hold.wait(LIMIT) else b"", b""))

    with serve(events=forever) as server:
        with ExitStack() as stack:
            for path, status in (("events", 200), ("events", 503), ("metrics", 200)):  # all three stay open
                held = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), LIMIT))
                held.sendall(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert held.recv(100).startswith(f"HTTP/1.1 {status}".encode())
            assert raw(server, b"").startswith(b"HTTP/1.1 503")
            hold.set()
        wait_until(lambda: ask(server, "/metrics")[0] == 200)


def test_a_request_that_comes_byte_by_byte_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_PATIENCE", 0.2)
    with serve() as server, socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: loc")
        assert b"200 OK" not in b"".join(iter(lambda: connection.recv(65_536), b""))
        assert ask(server, "/metrics")[0] == 200


def test_a_huge_head_is_refused() -> None:
    with serve() as server:
        assert raw(server, b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 414")
