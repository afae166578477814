"""The HTTP server of the monitor: metrics, its own health, and the routes of the page.

It answers GET and HEAD, and has limits: of connections, streams, the time that a request takes to come and an answer
to be taken. On a loopback address it answers only requests that name one: a page of the web whose name is made to
lead here (DNS rebinding) gets nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from buildkit.monitor.metrics import choose_format, render_metrics
from buildkit.monitor.state import MonitorState

PORT = 9469
_CONNECTIONS = 64
_STREAMS = 16
_PATIENCE = 10.0  # seconds for a request to come, and for a part of an answer to be taken
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorRequest:
    """A request; names of ``headers`` have lower case, and ``state`` returns figures that are at most a second old."""

    path: str
    query: str
    headers: Mapping[str, str]
    state: Callable[[], MonitorState]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """An answer. An iterator is a stream: each item is sent at once, and it is closed when the client has gone."""

    body: bytes | Iterator[bytes]
    content_type: str = _TEXT
    status: int = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()


Route = Callable[[MonitorRequest], HttpReply]
_TOO_MANY_STREAMS = HttpReply(
    body=b"too many streams\n", status=HTTPStatus.SERVICE_UNAVAILABLE, headers=(("Retry-After", "5"),)
)


def answer_metrics(request: MonitorRequest) -> HttpReply:
    """Answer with the metrics, in the format that the client prefers."""
    kind = choose_format(request.headers.get("accept", ""))
    return HttpReply(body=render_metrics(request.state().families, kind).encode(), content_type=kind)


def answer_health(request: MonitorRequest) -> HttpReply:
    """Answer 200, or 503 with the reason if the figures are not what they should be."""
    problem = request.state().problem
    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
    return HttpReply(body=f"{problem or 'ok'}\n".encode(), status=status)


class MonitorServer(ThreadingHTTPServer):
    """Serves until `shutdown`; ``state`` is called by several threads."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(
        self,
        address: tuple[str, int],
        state: Callable[[], MonitorState],
        routes: Mapping[str, Route],
    ) -> None:
        """Listen at an address, of IPv4 or IPv6. Raises OSError."""
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.state = state
        self.routes: Mapping[str, Route] = {**routes, "/metrics": answer_metrics, "/healthz": answer_health}
        self.streams = threading.BoundedSemaphore(_STREAMS)
        self._connections = threading.BoundedSemaphore(_CONNECTIONS)
        self._coming: dict[socket.socket, float] = {}  # until when each request must have come
        self._lock = threading.Lock()
        super().__init__(address, _Handler)
        self.is_local = is_loopback(str(self.server_address[0]))

    def server_bind(self) -> None:
        """Bind without looking up this host's name, which the base class does and which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def port(self) -> int:
        """The port, also if any free one was asked for."""
        return int(self.server_address[1])

    def expect(self, connection: socket.socket) -> None:
        """Give a connection the time for one request."""
        with self._lock:
            self._coming[connection] = time.monotonic() + _PATIENCE

    def arrived(self, connection: socket.socket) -> None:
        """Note that a request has come, or never will."""
        with self._lock:
            self._coming.pop(connection, None)

    def service_actions(self) -> None:
        """End connections whose request comes too slowly, byte by byte."""
        now = time.monotonic()
        with self._lock:
            late = [connection for connection, until in self._coming.items() if until < now]
        for connection in late:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # its thread reads the end, and closes it

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Answer a connection in a thread, or 503 if there are too many."""
        if self._connections.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # no thread can be started
                self._connections.release()
                raise
            return
        with suppress(OSError):
            request.settimeout(1)
            request.sendall(_BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class
        """Answer a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()


class _Handler(BaseHTTPRequestHandler):
    server: MonitorServer
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE * 6  # Prometheus asks again in a minute at most, and keeps the connection
    server_version, sys_version = "xoe-monitor", ""

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):  # the client has gone
            super().handle()

    def handle_one_request(self) -> None:
        if not self.rfile.peek(1):  # type: ignore[attr-defined] # it is a BufferedReader
            self.close_connection = True
            return
        self.server.expect(self.connection)
        try:
            super().handle_one_request()
        finally:
            self.server.arrived(self.connection)

    def do_GET(self) -> None:
        self.server.arrived(self.connection)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "content-length" in headers or "transfer-encoding" in headers:
            self.close_connection = True  # a body would be read as the next request
        self._send(self._find_reply(headers))

    do_HEAD = do_GET  # noqa: N815 - as http.server calls it

    def _find_reply(self, headers: Mapping[str, str]) -> HttpReply:
        if self.server.is_local and not is_local_name(headers.get("host", "")):
            return HttpReply(body=b"not the name of this server\n", status=HTTPStatus.MISDIRECTED_REQUEST)
        path, _, query = self.path.partition("?")
        route = self.server.routes.get(path)
        if route is None:
            return HttpReply(body=b"not found\n", status=HTTPStatus.NOT_FOUND)
        return route(MonitorRequest(path=path, query=query, headers=headers, state=self.server.state))

    def _send(self, reply: HttpReply) -> None:
        if isinstance(reply.body, bytes):
            self._send_head(reply, len(reply.body))
            if self.command != "HEAD":
                self.wfile.write(reply.body)
        elif self.server.streams.acquire(blocking=False):
            try:
                self._stream(reply, reply.body)
            finally:
                self.server.streams.release()
        else:
            self._send(_TOO_MANY_STREAMS)

    def _stream(self, reply: HttpReply, parts: Iterator[bytes]) -> None:
        self.close_connection = True
        self.connection.settimeout(_PATIENCE)
        self._send_head(reply, None)
        try:
            for part in parts if self.command != "HEAD" else ():
                self.wfile.write(part)
                self.wfile.flush()
        finally:
            if close := getattr(parts, "close", None):
                close()

    def _send_head(self, reply: HttpReply, length: int | None) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("X-Content-Type-Options", "nosniff")
        named = {name.lower() for name, _ in reply.headers}
        if "cache-control" not in named:
            self.send_header("Cache-Control", "no-store")
        for name, value in reply.headers:
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - as the base class has it
        """Log nothing: a line a second says nothing."""


def is_loopback(host: str) -> bool:
    """Return whether an address is one of this host alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_local_name(host: str) -> bool:
    """Return whether a ``Host`` header names this host by address, or as localhost."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    return is_loopback(name.strip("[]").lower())
