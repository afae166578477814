"""HTTP/1.1 connections to registries: kept for the next request, ended at once when their operation is over.

The only importer of ``http.client``: it loads in a fraction of the time of our other HTTP library, which counts when a
push has nothing to do, and lets files be sent by the kernel.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from buildkit.errors import is_disk_error
from buildkit.tools.distribution.proxies import Proxy, find_proxy
from buildkit.tools.growing_blob import GrowingBlob

_CONNECTING = 15.0  # seconds
_BLOCK = 1 << 20
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH")


class RegistryOrigin(NamedTuple):
    """Whom a connection reaches."""

    scheme: str
    host: str  # without brackets
    port: int

    @property
    def authority(self) -> str:
        """``HOST:PORT`` as URLs have it, without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


def parse_origin(url: str) -> tuple[RegistryOrigin, str]:
    """Split an absolute URL of HTTP into origin and target; raises ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("not an address that is followed")
    origin = RegistryOrigin(parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme])
    return origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """A part of a file as a request's body."""

    path: Path
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request; ``target`` is path and query. At most ``limit`` bytes of the answer's body are read.

    ``into`` gets the status (200 or 206) and the headers, and returns what takes the body, of any size.
    """

    method: str
    origin: RegistryOrigin
    target: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | FilePart | GrowingBlob = b""
    limit: int = 64 << 10
    sent: Callable[[int], None] = field(default=lambda _done: None, repr=False)  # called with the bytes sent so far
    into: Callable[[int, Mapping[str, str]], Callable[[memoryview], None]] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A response of ``origin``; names of headers are lower case. ``whole`` is false if the body exceeds the limit."""

    origin: RegistryOrigin
    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True


class ConnectionFailed(Exception):
    """No response came; ``transient`` if another try may succeed."""

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class Connections:
    """Idle connections for one repository; threads share them. ``make_tls`` is called once, if TLS is spoken."""

    def __init__(self, make_tls: Callable[[], ssl.SSLContext]) -> None:
        self._make_tls = make_tls
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[RegistryOrigin, list[HTTPConnection]] = {}
        self._lock = threading.Lock()

    def __del__(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()

    def take(self, origin: RegistryOrigin) -> HTTPConnection | None:
        """Return an idle connection that the other side has not closed."""
        while True:
            with self._lock:
                connections = self._idle.get(origin)
                connection = connections.pop() if connections else None
            if connection is None or not _is_readable(connection.sock):
                return connection
            connection.close()

    def give(self, origin: RegistryOrigin, connection: HTTPConnection) -> None:
        """Keep a connection for the next request."""
        with self._lock:
            self._idle.setdefault(origin, []).append(connection)

    def open(self, origin: RegistryOrigin) -> HTTPConnection:
        """Return a new connection, perhaps through a proxy; raises OSError and LeftToSkopeo."""
        proxy = find_proxy(*origin)
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        if origin.scheme == "http":
            connection = HTTPConnection(host, port, timeout=_CONNECTING)
        else:
            connection = HTTPSConnection(host, port, timeout=_CONNECTING, context=self._context())
            if proxy:
                connection.set_tunnel(origin.host, origin.port, headers=_proxy_headers(proxy))
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = self._make_tls()
            return self._tls


class Operation:
    """The requests of one operation, such as a push: ``abort`` ends all of them, from any thread.

    ``stall`` is how many seconds may pass without a byte.
    """

    def __init__(self, connections: Connections, stall: float) -> None:
        self._connections = connections
        self._stall = stall
        self._active: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.aborted = threading.Event()

    def abort(self) -> None:
        """End running requests, which then raise ConnectionFailed, and let no other begin."""
        self.aborted.set()
        with self._lock:
            for active in self._active:
                with suppress(OSError):
                    active.shutdown(socket.SHUT_RDWR)

    def request(self, request: HttpRequest) -> HttpResponse:
        """Return the response, whatever its status; raises ConnectionFailed and LeftToSkopeo."""
        again = (ConnectionError,) if isinstance(request.body, bytes) and not request.into else ()
        try:
            if kept := self._connections.take(request.origin):
                with suppress(*again):  # the other side has closed it just now
                    return self._exchange(kept, request)
            return self._exchange(self._connections.open(request.origin), request)
        except (OSError, HTTPException, ValueError) as error:
            if is_disk_error(error):  # of what takes a body
                raise
            raise self._explain(error) from error

    def _exchange(self, connection: HTTPConnection, request: HttpRequest) -> HttpResponse:
        with self._using(connection) as used:
            used.settimeout(self._stall)
            early = _send(connection, request)
            with connection.getresponse() as answer:
                headers = {name.lower(): ", ".join(answer.headers.get_all(name, [])) for name in answer.headers}
                takes = request.into(answer.status, headers) if request.into and answer.status in (200, 206) else None
                body = _pass_on(answer, takes) if takes else _read(answer, request)
                closes = early or answer.will_close or not answer.isclosed()
        if closes:
            connection.close()
        else:
            self._connections.give(request.origin, connection)
        return HttpResponse(
            origin=request.origin,
            status=answer.status,
            headers=headers,
            body=body[: request.limit],
            whole=len(body) <= request.limit,
        )

    @contextmanager
    def _using(self, connection: HTTPConnection) -> Iterator[socket.socket]:
        """Register the socket for ``abort``; a connection whose exchange fails is closed."""
        used: socket.socket = connection.sock
        with self._lock:
            self._active.add(used)
        try:
            if self.aborted.is_set():
                raise ConnectionAbortedError("aborted")
            yield used
        except BaseException:
            connection.close()
            raise
        finally:
            with self._lock:
                self._active.discard(used)

    def _explain(self, error: Exception) -> ConnectionFailed:
        match error:
            case ssl.SSLCertVerificationError():
                message = f"x509: its certificate is not trusted: {error.verify_message}"
                return ConnectionFailed(message, transient=False)
            case ssl.SSLError() if any(mark in (error.reason or "") for mark in _NOT_TLS):
                return ConnectionFailed("server gave HTTP response to HTTPS client", transient=False)
            case TimeoutError():
                return ConnectionFailed(f"nothing came or went for {self._stall:.0f} s")
            case ConnectionRefusedError():
                return ConnectionFailed("connection refused")
            case socket.gaierror():
                return ConnectionFailed("no such host", transient=error.errno == socket.EAI_AGAIN)
            case ConnectionError() | ssl.SSLError() | IncompleteRead():
                return ConnectionFailed("the connection broke off: unexpected EOF")
            case OSError():
                return ConnectionFailed(error.strerror or str(error))
            case _:
                return ConnectionFailed(f"its answer is not HTTP: {type(error).__name__}", transient=False)


def _read(answer: HTTPResponse, request: HttpRequest) -> bytes:
    """Return the body up to one byte more than the limit."""
    expected = answer.length
    body = answer.read(request.limit + 1)
    if request.method != "HEAD" and expected is not None and len(body) < min(expected, request.limit + 1):
        raise ConnectionResetError("cut off")
    return body


def _pass_on(answer: HTTPResponse, take: Callable[[memoryview], None]) -> bytes:
    """Pass the body on in blocks, and return nothing of it."""
    block = memoryview(bytearray(_BLOCK))
    while count := answer.readinto(block):
        take(block[:count])
    if answer.length:
        raise ConnectionResetError("cut off")
    return b""


def _send(connection: HTTPConnection, request: HttpRequest) -> bool:
    """Send a request; return whether the answer came before all of it was sent."""
    proxy = find_proxy(*request.origin) if request.origin.scheme == "http" else None
    target = f"http://{request.origin.authority}{request.target}" if proxy else request.target
    connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
    headers = {"Host": request.origin.authority, "User-Agent": "xoe-buildkit", **request.headers}
    body = request.body
    if isinstance(body, GrowingBlob):
        headers["Transfer-Encoding"] = "chunked"
    elif body or request.method in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = str(body.size if isinstance(body, FilePart) else len(body))
    for name, value in (headers | (_proxy_headers(proxy) if proxy else {})).items():
        connection.putheader(name, value)
    if isinstance(body, GrowingBlob):
        connection.endheaders()
        return _is_refused(lambda: _send_growing(connection.sock, body, request.sent))
    with _in_whole_segments(connection.sock):
        if isinstance(body, bytes):
            connection.endheaders(body)
            request.sent(len(body))
            return False
        connection.endheaders()
        with body.path.open("rb", buffering=0) as file:
            part = body.start, body.size
            return _is_refused(lambda: _send_range(connection.sock, file.fileno(), part, request.sent))


def _is_refused(send: Callable[[], None]) -> bool:
    """Return whether an answer came before all of a body was sent: a refusal, and the rest is not sent."""
    try:
        send()
    except (_AnsweredError, BrokenPipeError, ConnectionResetError):
        return True
    return False


@contextmanager
def _in_whole_segments(out: socket.socket) -> Iterator[None]:
    """Send headers with the beginning of the body, and not ahead of it (TCP_CORK of tcp(7)).

    A proxy that passes on two small pieces waits 40 ms between them, for an acknowledgement of the first.
    """
    out.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        yield
    finally:
        with suppress(OSError):  # the other side has closed it
            out.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


def _send_growing(out: socket.socket, body: GrowingBlob, sent: Callable[[int], None]) -> None:
    """Send a file in chunks as it grows."""
    done = 0
    while (size := min(body.wait(done) - done, _BLOCK)) > 0:
        out.sendall(b"%x\r\n" % size)
        _send_range(out, body.file, (done, size), lambda _more: None)
        out.sendall(b"\r\n")
        done += size
        sent(done)
    out.sendall(b"0\r\n\r\n")


def _send_range(out: socket.socket, file: int, part: tuple[int, int], sent: Callable[[int], None]) -> None:
    """Send the bytes of a file from a position on, so many; raises _AnsweredError if an answer comes meanwhile."""
    send = _send_encrypted if isinstance(out, ssl.SSLSocket) else _send_plainly
    (start, size), done = part, 0
    while done < size:
        count = send(out, file, start + done, min(size - done, _BLOCK))
        if not count:
            raise ConnectionError("the file became shorter")
        done += count
        sent(done)


class _AnsweredError(Exception):
    """The answer came before the request was sent."""


def _is_readable(idle: socket.socket) -> bool:
    waiting = select.poll()
    waiting.register(idle, select.POLLIN)
    return bool(waiting.poll(0))


def _send_plainly(out: socket.socket, file: int, at: int, count: int) -> int:
    waiting = select.poll()
    waiting.register(out, select.POLLOUT | select.POLLIN)
    while True:
        (events,) = [found for _, found in waiting.poll((out.gettimeout() or 0) * 1000)] or [0]
        if not events:
            raise TimeoutError
        if events & ~select.POLLOUT:
            raise _AnsweredError
        with suppress(BlockingIOError):
            return os.sendfile(out.fileno(), file, at, count)


def _send_encrypted(out: socket.socket, file: int, at: int, count: int) -> int:
    block = os.pread(file, min(count, _BLOCK // 4), at)
    out.sendall(block)
    return len(block)


def _proxy_headers(proxy: Proxy) -> dict[str, str]:
    return {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
