"""Files of which only some bytes are fetched, from servers that send what they like."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources
from buildkit.tools.remote_file import RemoteFile, TooMuchError

DATA = random.Random(2).randbytes(1_000_003)


class PartServer(ThreadingHTTPServer):
    """Sends parts of `DATA`; ``change`` alters first byte, last byte and body of an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _PartHandler)
        self.asked: list[str] = []
        self.change: Callable[[int, int, bytes], tuple[int, int, bytes]] = lambda first, last, body: (first, last, body)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that has enough hangs up."""


class _PartHandler(BaseHTTPRequestHandler):
    server: PartServer

    def do_GET(self) -> None:
        wanted = self.headers["Range"].removeprefix("bytes=")
        self.server.asked.append(wanted)
        first, last = (int(part) for part in wanted.split("-"))
        first, last, body = self.server.change(first, last, DATA[first : last + 1])
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(DATA)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[PartServer]:
    with PartServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def opened(server: PartServer) -> Iterator[Callable[[int], RemoteFile]]:
    sources = PackageSources(pip=IndexSettings(), uv=IndexSettings())
    with closing(HttpSession(sources, RetryPolicy(threading.Event(), unit=0))) as session:
        yield lambda most: RemoteFile(session, f"http://127.0.0.1:{server.server_port}/x", len(DATA), most=most)


def test_bytes_are_those_of_the_file_in_any_order(opened: Callable[[int], RemoteFile]) -> None:
    chosen = random.Random(3)
    file = opened(1 << 24)
    for _ in range(60):
        offset, count = chosen.randrange(len(DATA) + 9), chosen.randrange(200_000)
        assert file.read_at(offset, count) == DATA[offset : offset + count]
    file.seek(-5, 2)
    assert file.read(9) == DATA[-5:]


def test_end_takes_one_request_and_reading_on_takes_few(
    server: PartServer, opened: Callable[[int], RemoteFile]
) -> None:
    file = opened(1 << 24)
    assert file.read_at(len(DATA) - 22, 22) == DATA[-22:]
    assert file.read_at(len(DATA) - 60_000, 60_000) == DATA[-60_000:]
    assert len(server.asked) == 1
    server.asked.clear()
    file = opened(1 << 24)
    assert b"".join(iter(lambda: file.read(4096), b"")) == DATA
    assert len(server.asked) < 6


def test_no_more_is_taken_than_was_asked_for_and_is_worth_it(
    server: PartServer, opened: Callable[[int], RemoteFile]
) -> None:
    with pytest.raises(TooMuchError):
        opened(1 << 17).read_at(0, 500_000)
    assert server.asked == []
    server.change = lambda first, last, body: (first, last, body + b"x")
    with pytest.raises(TooMuchError):
        opened(1 << 24).read_at(0, 10)
    server.change = lambda first, last, body: (first + 1, last, body)
    with pytest.raises(TooMuchError):
        opened(1 << 24).read_at(0, 10)
    server.change = lambda first, last, body: (first, last, body[:5])
    assert opened(1 << 24).read_at(0, 10) == DATA[:5] + bytes(5), "what reads it finds that wrong"
