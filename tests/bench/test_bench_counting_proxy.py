"""The proxy counts bytes in both directions without changing them, also if one side ends first."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from buildkit.bench.counting_proxy import CountingProxy, Traffic, open_counting_proxy

ANSWER = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def proxy() -> Iterator[CountingProxy]:
    """A proxy to a server that reads to the end, then sends `ANSWER` and the number of bytes that it read."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):  # of a client that hung up
                    count = 0
                    while data := connection.recv(1 << 16):
                        count += len(data)
                    connection.sendall(ANSWER + b"%d" % count)

        threading.Thread(target=serve, daemon=True).start()
        with open_counting_proxy(server.getsockname()[:2]) as opened:
            yield opened
        server.shutdown(socket.SHUT_RDWR)


def _ask(proxy: CountingProxy, data: bytes) -> bytes:
    host, _, port = proxy.host.partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_proxy_counts_both_directions(proxy: CountingProxy) -> None:
    sent = random.Random(2).randbytes(5_000_000)
    assert _ask(proxy, sent) == ANSWER + b"5000000"
    assert proxy.traffic == Traffic(len(sent), len(ANSWER) + 7)


def test_proxy_adds_up_concurrent_connections(proxy: CountingProxy) -> None:
    before = proxy.traffic
    threads = [threading.Thread(target=_ask, args=(proxy, b"x" * 1000)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.traffic - before == Traffic(8000, 8 * (len(ANSWER) + 4))


def test_proxy_survives_a_client_that_hangs_up(proxy: CountingProxy) -> None:
    host, _, port = proxy.host.partition(":")
    for _ in range(3):
        socket.create_connection((host, int(port))).close()
    assert _ask(proxy, b"abc").endswith(b"3")


def test_proxy_closes_connections_without_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        behind = free.getsockname()[:2]
    with open_counting_proxy(behind) as proxy:
        host, _, port = proxy.host.partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as client:
            assert client.recv(1) == b""
        time.sleep(0.01)
        assert proxy.traffic == Traffic(0, 0)
