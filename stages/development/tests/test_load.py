"""The service as a process under more load than it admits, and told to stop in the middle of it: nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import httpx2
import numpy as np
from clips import encode
from processes import Start, finish, wait_until_healthy

WAV = {"Content-Type": "audio/wav"}
ADMITTED = 10
AUDIO = encode(np.zeros(16_000 * 5, np.float32), 16_000)


def start(run: Start, **environ: str) -> subprocess.Popen[str]:
    service = run("-m", "main", SPEECH_ACCESS_LOG="false", **environ)  # nobody reads its output meanwhile
    wait_until_healthy(run)
    return service


def describe(answer: httpx2.Response) -> str:
    """Return "answered" or "refused"; anything else is a loss."""
    if answer.status_code == 200:
        assert answer.json()["audio"]["duration"] == 5
        return "answered"
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["code"] in {"busy", "stopping"}
    return "refused"


def client(port: int) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=WAV, timeout=120, limits=limits)


def test_under_twice_the_admitted_load_every_request_is_answered_or_refused(run: Start, port: int) -> None:
    start(run, SPEECH_WORKERS="2", SPEECH_MAX_WAITING=str(ADMITTED - 2))

    async def scenario() -> Counter[str]:
        async with client(port) as web:

            async def send(times: int) -> list[str]:
                return [describe(await web.post("/v1/speech", content=AUDIO)) for _ in range(times)]

            found = await asyncio.gather(*(send(15) for _ in range(2 * ADMITTED)))
            assert describe(await web.post("/v1/speech", content=AUDIO)) == "answered"
            metrics = (await web.get("/metrics")).text
            assert "speech_requests_admitted 0.0" in metrics  # every place is free again
            assert "speech_requests_waiting 0.0" in metrics
        return Counter(word for words in found for word in words)

    ended = asyncio.run(scenario())
    assert ended.total() == 2 * ADMITTED * 15
    assert ended["answered"] >= ADMITTED
    assert ended["refused"] >= ADMITTED  # else it was no such load


def test_what_is_admitted_by_default_is_answered_to_fifty_clients(run: Start, port: int) -> None:
    start(run)

    async def scenario() -> Counter[str]:
        async with client(port) as web:
            answers = await asyncio.gather(*(web.post("/v1/speech", content=AUDIO) for _ in range(50)))
        return Counter(map(describe, answers))

    assert asyncio.run(scenario()) == {"answered": 50}


def test_a_stop_under_load_loses_nothing(run: Start, port: int) -> None:
    service = start(run, SPEECH_WORKERS="2", SPEECH_DRAIN_SECONDS="1", SPEECH_SHUTDOWN_TIMEOUT="60")
    answered, after, unready = asyncio.run(load_until_it_stops(service, port))
    assert answered >= 30
    assert after > 0  # it went on answering
    assert unready > 0  # and said that it was not ready
    code, output = finish(service)
    assert code == 0, output
    assert "Traceback" not in output


async def load_until_it_stops(service: subprocess.Popen[str], port: int) -> tuple[int, int, int]:
    """Send from eight clients, stop the service after 30 answers, and go on until it refuses or is gone.

    Returns how many were answered, how many of them after it was told to stop, and how often /readyz refused before.
    Whatever is sent and gets no answer raises.
    """
    answered = after = unready = 0
    stopped = False

    async def send() -> None:
        nonlocal answered, after, stopped
        async with client(port) as web:
            while True:
                before = stopped
                try:
                    answer = await web.post("/v1/speech", content=AUDIO)
                except httpx2.ConnectError:
                    assert before  # nobody listens any more: nothing was sent
                    return
                if describe(answer) == "refused":
                    assert before
                    return
                answered, after = answered + 1, after + before
                if answered == 30:
                    service.send_signal(signal.SIGTERM)
                    stopped = True

    async def look() -> None:
        nonlocal unready
        async with client(port) as web:
            while True:
                try:
                    status = (await web.get("/readyz")).status_code
                except httpx2.TransportError:
                    return  # a probe, which is no request of anybody
                unready += status == 503
                await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    await asyncio.gather(*(send() for _ in range(8)))
    await looking
    return answered, after, unready


def make_head(body: bytes) -> bytes:
    head = f"POST /v1/speech HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode()


@contextmanager
def half_sent(run: Start, port: int, limit: str) -> Iterator[socket.socket]:
    """A connection with half a request, to a service that was told to stop since, and refuses what is new."""
    service = start(run, SPEECH_DRAIN_SECONDS="0", SPEECH_SHUTDOWN_TIMEOUT=limit)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(make_head(AUDIO) + AUDIO[:1000])
        wait_for(lambda: "speech_requests_admitted 1.0" in httpx2.get(f"http://127.0.0.1:{port}/metrics").text)
        service.send_signal(signal.SIGTERM)
        yield connection
    assert finish(service)[0] == 0


def wait_for(fits: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not fits():
        assert time.monotonic() < until
        time.sleep(0.01)


def read_answer(connection: socket.socket) -> str:
    """Return everything until the service closes the connection."""
    with connection.makefile("rb") as file:
        return file.read().decode()


def test_while_it_stops_new_requests_are_refused_and_those_begun_are_answered(run: Start, port: int) -> None:
    large = encode(np.zeros(16_000 * 250, np.float32), 16_000)  # 8 MB: more than the kernel holds for a reader
    with half_sent(run, port, "60") as upload:
        wait_for(lambda: httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 503)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(make_head(large) + large)  # fails if the service closes before it has read this
            refused = read_answer(connection)
        assert refused.startswith("HTTP/1.1 503")
        assert "retry-after: 1" in refused.lower()
        assert "connection: close" in refused.lower()
        upload.sendall(AUDIO[1000:])
        answer = read_answer(upload)
    assert answer.startswith("HTTP/1.1 200")
    assert "connection: close" in answer.lower()


def test_a_request_that_does_not_end_in_time_is_told_to_come_back(run: Start, port: int) -> None:
    with half_sent(run, port, "1") as upload:
        answer = read_answer(upload)
    assert answer.startswith("HTTP/1.1 503")
    assert "retry-after: 1" in answer.lower()
    assert '"code":"stopping"' in answer


def test_a_refused_body_of_any_size_does_not_end_the_connection(run: Start, port: int) -> None:
    start(run, SPEECH_WORKERS="1", SPEECH_MAX_WAITING="0")

    async def scenario() -> None:
        release = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield AUDIO[:1000]
            await release.wait()
            yield AUDIO[1000:]

        async with client(port) as web:
            held = asyncio.create_task(web.post("/v1/speech", content=slow()))
            while "speech_requests_admitted 1.0" not in (await web.get("/metrics")).text:
                await asyncio.sleep(0.01)
            large = bytes(8_000_000)
            for _ in range(3):
                assert describe(await web.post("/v1/speech", content=large)) == "refused"
            release.set()
            assert describe(await held) == "answered"

    asyncio.run(scenario())
