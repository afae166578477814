"""Who is let in, and who waits: a bounded number of requests and bytes, then a queue in front of the workers.

A request that would wait longer than it may is refused before its body is read, so that overload costs little, and
is told when to come back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from problems import Problem

SPAN = 50  # requests that the mean is of; a stall of the machine is one of them
FEWEST = 10  # requests before the mean is believed: the first ones are slower
LONGEST = 60  # seconds that a client is told to wait
HINT = "try again after the seconds that Retry-After names"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is admitted at once: requests, at work, sending their body or waiting, and the bytes of their bodies.

    `workers` are served at a time; another waits for at most `seconds`.
    """

    workers: int
    requests: int
    bytes: int
    seconds: float


class Admission:
    """Places for requests, and the queue of those that are complete. For use from one event loop only."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.perf_counter) -> None:
        self._limits = limits
        self._clock = clock
        self._workers = asyncio.Semaphore(limits.workers)  # first come, first served
        self._bytes = 0
        self._mean = 0.0  # seconds that a worker takes for a request
        self._seen = 0
        self.inside = 0
        self.waiting = 0

    @contextmanager
    def admit(self, size: int) -> Iterator[None]:
        """Hold a place and `size` bytes for as long as the context lasts.

        Raises:
            Problem: (503) no place or room is free, or the wait for a worker would be too long.
        """
        wait = self._expect_wait()
        if self.inside >= self._limits.requests or self._bytes + size > self._limits.bytes:
            raise busy(f"{self.inside} requests are being worked on", wait)
        if wait > self._limits.seconds:
            raise busy(f"{self.inside} requests are ahead, about {wait:.0f} s of work", wait - self._limits.seconds)
        self.inside += 1
        self._bytes += size
        try:
            yield
        finally:
            self.inside -= 1
            self._bytes -= size

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Wait for a worker, and hold it for as long as the context lasts.

        Raises:
            Problem: (503) none was free within the longest wait.
        """
        self.waiting += 1
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._workers.acquire()
        except TimeoutError as error:
            raise busy(f"no worker was free within {self._limits.seconds:g} s", self._expect_wait()) from error
        finally:
            self.waiting -= 1
        begun = self._clock()
        try:
            yield
        finally:
            self._workers.release()
            self._seen += 1
            self._mean += (self._clock() - begun - self._mean) / min(self._seen, SPAN)

    def _expect_wait(self) -> float:
        """Return the seconds of work that are ahead of one more request; 0 while they are not known."""
        if self._seen < FEWEST:
            return 0.0
        return max(0, self.inside - self._limits.workers + 1) * self._mean / self._limits.workers


def busy(why: str, seconds: float) -> Problem:
    """Refuse a request for now."""
    return Problem(503, "busy", why, HINT, retry_after=min(LONGEST, max(1, math.ceil(seconds))))
