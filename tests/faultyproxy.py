"""A proxy in front of a real registry that counts requests and bytes, and injects faults."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import cast

from tests.registry import CERTIFIED, Authority, new_address

_BLOCK = 65536
_OF_ONE_HOP = frozenset({"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The fault of a request before or while it is forwarded. Offsets count bytes of the body."""

    delay: float = 0  # seconds until anything else happens
    status: int = 0  # answered by the proxy itself, with `body`; 0: the registry answers
    body: bytes = b'{"errors":[{"code":"UNKNOWN","message":"a fault made for the test"}]}'
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({"Content-Type": "application/json"}))
    rate: int = 0  # bytes a second, of either body
    cut_up: int | None = None  # the connection breaks once so much of the request has come
    cut_down: int | None = None  # and once so much of the answer has gone; 0: none of it, and no status either
    hold_down: int | None = None  # the answer waits before it has more of its body than this, until `released`
    released: threading.Event = field(default_factory=threading.Event)
    flip: int | None = None  # this byte of the answer has all its bits turned


@dataclass(kw_only=True)
class Request:
    """One request, recorded on arrival; bytes and status are set before the client can see them."""

    method: str
    path: str  # with the query
    status: int = 0  # of the answer; 0 while there is none, and if the connection broke before
    up: int = 0
    down: int = 0
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    faulty: bool = False


@dataclass(kw_only=True)
class _Rule:
    method: str
    path: re.Pattern[str]
    fault: Fault
    left: float  # times

    def takes(self, request: Request) -> bool:
        return self.left > 0 and self.method in ("", request.method) and bool(self.path.search(request.path))


class FaultyProxy:
    """``with FaultyProxy("127.0.0.1:5000") as proxy`` serves that registry at ``proxy.host``, by TLS if given one.

    The registry itself must speak plain HTTP. Bodies pass through in small blocks, so they may be of any size.
    """

    def __init__(self, upstream: str, authority: Authority | None = None) -> None:
        self.upstream = upstream
        self.requests: list[Request] = []
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        address = CERTIFIED if authority else new_address()
        self._server = _Server(self, address)
        self.host = f"{address}:{self._server.server_address[1]}"
        self.scheme = "https" if authority else "http"
        if authority:  # the handshake is left to the thread that first reads
            plain = self._server.socket
            context = authority.server_context()
            self._server.socket = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,)).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()  # waits for the threads
        if self._server.errors and error is None:
            raise self._server.errors[0]

    def fault(self, method: str, path: str, fault: Fault, *, times: float = float("inf")) -> None:
        """Apply a fault to the next ``times`` requests of ``method`` ("": any) whose path and query match ``path``.

        The first rule that fits is used, in the order given.
        """
        with self._lock:
            self._rules.append(_Rule(method=method, path=re.compile(path), fault=fault, left=times))

    def clear(self) -> None:
        """Forget all faults and requests."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def count(self, method: str = "", path: str = "") -> int:
        """Return the number of requests of ``method`` ("": any) whose path and query match ``path``."""
        with self._lock:
            return sum(method in ("", one.method) and bool(re.search(path, one.path)) for one in self.requests)

    def enter(self, request: Request) -> Fault:
        """Record the request; return its fault, which counts as used."""
        with self._lock:
            self.requests.append(request)
            rule = next((rule for rule in self._rules if rule.takes(request)), None)
            if rule is None:
                return Fault()
            rule.left -= 1
            request.faulty = True
            return rule.fault


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # else closing would not wait for them

    def __init__(self, proxy: FaultyProxy, address: str) -> None:
        super().__init__((address, 0), _Handler)
        self.proxy = proxy
        self.errors: list[BaseException] = []
        self._open: set[socket.socket] = set()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for one in tuple(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if error and not isinstance(error, (OSError, HTTPException)):  # clients go away, and refuse certificates
            self.errors.append(error)


class _Cut(ConnectionError):
    """The fault breaks the connection here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.proxy = cast("_Server", self.server).proxy
        self.upstream = HTTPConnection(self.proxy.upstream)

    def finish(self) -> None:
        self.upstream.close()
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name above
        pass

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(method=self.command, path=self.path, headers=headers)
        fault = self.proxy.enter(request)
        try:
            self.proxy.closed.wait(fault.delay)
            if fault.status:
                for _ in self._take(request, fault):
                    pass  # or the client may not get to see the answer
                self._start(request, fault.status, fault.headers, len(fault.body))
                self._give(request, fault, iter((fault.body,)))
            else:
                self._relay(request, fault)
        except (OSError, HTTPException):
            self.close_connection = True
            self.upstream.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 - their names above

    def _relay(self, request: Request, fault: Fault) -> None:
        chunked = "chunked" in request.headers.get("transfer-encoding", "")
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _OF_ONE_HOP:
                self.upstream.putheader(name, value)
        self.upstream.putheader("Host", self.proxy.upstream)
        if chunked:
            self.upstream.putheader("Transfer-Encoding", "chunked")
        self.upstream.endheaders()
        for block in self._take(request, fault):
            self.upstream.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        if chunked:
            self.upstream.send(b"0\r\n\r\n")
        with self.upstream.getresponse() as answer:
            if fault.cut_down == 0:
                raise _Cut
            self._start(request, answer.status, dict(answer.getheaders()), answer.length)
            self._give(request, fault, _read(answer))

    def _take(self, request: Request, fault: Fault) -> Iterator[bytes]:
        """Yield the request's body in blocks."""
        if fault.cut_up == 0:
            raise _Cut
        for block in self._blocks():
            request.up += len(block)
            if fault.cut_up is not None and request.up >= fault.cut_up:
                raise _Cut
            if fault.rate:
                self.proxy.closed.wait(len(block) / fault.rate)
            yield block

    def _blocks(self) -> Iterator[bytes]:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            yield from self._read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self._line().partition(b";")[0], 16):
            yield from self._read(size)
            self._line()
        while self._line().strip():
            pass

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            block = self.rfile.read1(min(size, _BLOCK))
            if not block:
                raise ConnectionError
            size -= len(block)
            yield block

    def _line(self) -> bytes:
        if not (line := self.rfile.readline(_BLOCK)):
            raise ConnectionError
        return line

    def _start(self, request: Request, status: int, headers: Mapping[str, str], length: int | None) -> None:
        request.status = status
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() == "location":
                there = f"http://{self.proxy.upstream}/"
                self.send_header(name, value.replace(there, f"{self.proxy.scheme}://{self.proxy.host}/"))
            elif name.lower() not in (_OF_ONE_HOP | {"content-length"}):
                self.send_header(name, value)
        if self.command == "HEAD" and "Content-Length" in headers:
            self.send_header("Content-Length", headers["Content-Length"])
        elif length is not None and status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.chunked = length is None and self.command != "HEAD" and status not in (204, 304)
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _give(self, request: Request, fault: Fault, blocks: Iterator[bytes]) -> None:
        """The answer's body, which is read to its end even if it is not for sending, so that upstream may be reused."""
        if self.command == "HEAD":
            return
        for whole in blocks:
            for block in _split(whole, max(1, fault.rate // 20) if fault.rate else _BLOCK):
                self._write(request, fault, block)
        if self.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _write(self, request: Request, fault: Fault, block: bytes) -> None:
        start = request.down
        if fault.flip is not None and start <= fault.flip < start + len(block):
            at = fault.flip - start
            block = block[:at] + bytes((block[at] ^ 0xFF,)) + block[at + 1 :]
        cut = fault.cut_down is not None and start + len(block) >= fault.cut_down
        if cut:
            block = block[: cast("int", fault.cut_down) - start]
        if fault.hold_down is not None and start + len(block) > fault.hold_down:
            while not (fault.released.wait(0.05) or self.proxy.closed.is_set()):
                pass
        request.down += len(block)
        self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if self.chunked else block)
        if cut:
            raise _Cut
        if fault.rate:
            self.proxy.closed.wait(len(block) / fault.rate)


def _read(answer: HTTPResponse) -> Iterator[bytes]:
    while block := answer.read(_BLOCK):
        yield block


def _split(block: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(block), size):
        yield block[at : at + size]
