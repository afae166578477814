"""A small load: clients that send the requests of a file over and over, each as soon as it has its answer."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import count, cycle

from buildkit.profiling.requests_file import ServiceRequest

_TIMEOUT = 60.0  # seconds of an answer
_PATIENCE = 5.0  # seconds of one that shows whether the service is there
_MOST_LATENCIES = 200_000
_MOST_ANSWER = 64 << 20
_PAUSE = 0.05  # seconds after an error: a service that is gone is not asked a million times


@dataclass(slots=True, kw_only=True)
class LoadCounts:
    """Answers by status (``error``: none came), and their latencies in seconds."""

    answers: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """Requests without an answer, or with one from 400 on."""
        return sum(number for status, number in self.answers.items() if status == "error" or int(status) >= 400)

    @property
    def answered(self) -> int:
        """All requests that were sent to their end."""
        return self.answers.total()

    def as_json(self) -> dict[str, object]:
        """Return the counts, with the median latency in seconds (null without answers)."""
        return {
            "requests": self.answered,
            "failed": self.failed,
            "answers": dict(sorted(self.answers.items())),
            "seconds": round(self.seconds, 3),
            "median": round(statistics.median(self.latencies), 6) if self.latencies else None,
        }


def send(connection: HTTPConnection, request: ServiceRequest) -> int:
    """Send a request, read its answer to the end and return its status. Raises OSError and HTTPException.

    A connection that the server has closed since its last answer is opened anew.
    """
    if connection.sock is not None:
        try:
            return _send(connection, request)
        except ConnectionError:  # also RemoteDisconnected
            connection.close()
    return _send(connection, request)


def _send(connection: HTTPConnection, request: ServiceRequest) -> int:
    connection.request(request.method, request.target, request.body or None, dict(request.headers))
    answer = connection.getresponse()
    if len(answer.read(_MOST_ANSWER)) == _MOST_ANSWER:
        connection.close()
    return answer.status


def ask_once(port: int, request: ServiceRequest) -> int:
    """Return the status of one answer of a service on loopback; 0: none came."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        return send(connection, request)
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


@contextmanager
def sending(port: int, requests: Sequence[ServiceRequest], clients: int) -> Iterator[LoadCounts]:
    """Send requests to a port of loopback until the block ends; the counts are complete then."""
    counts, ended, guard, numbers = LoadCounts(), threading.Event(), threading.Lock(), count()

    def run_client() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
        first = next(numbers) % len(requests)
        for request in cycle((*requests[first:], *requests[:first])):
            if ended.is_set():
                break
            began = time.perf_counter()
            try:
                status = str(send(connection, request))
            except (OSError, HTTPException):
                connection.close()
                if ended.wait(_PAUSE):
                    break
                status = "error"
            with guard:
                counts.answers[status] += 1
                if status != "error" and len(counts.latencies) < _MOST_LATENCIES:
                    counts.latencies.append(time.perf_counter() - began)
        with suppress(OSError):
            connection.close()

    threads = [threading.Thread(target=run_client, daemon=True) for _ in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        ended.set()
        counts.seconds = time.monotonic() - began
    for thread in threads:
        thread.join(_TIMEOUT)
