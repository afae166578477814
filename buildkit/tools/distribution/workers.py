"""Requests of one operation in threads, with retries.

The operation ends at once when a request fails for good, at a stop, and when its time is over: its sockets are shut
down, so that no thread waits for a registry any longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import contextmanager
from typing import TypeVar

from buildkit.errors import Interrupted
from buildkit.tools.distribution.connections import Operation
from buildkit.tools.distribution.session import RequestFailed
from buildkit.tools.registry_errors import SLOW
from buildkit.worker_pool import WorkerPool

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_POLL = 0.1  # seconds between two looks at whether to stop


class Workers:
    """Runs functions of one operation. ``waits`` are the seconds before each retry.

    An operation may stall ``most_stalls`` times. ``limit`` is the time of the whole in seconds, 0 for none.
    """

    def __init__(
        self,
        operation: Operation,
        stop: threading.Event,
        waits: tuple[float, ...],
        *,
        most_stalls: int = 1,
        limit: float = 0,
    ) -> None:
        self.operation = operation
        self._stop = stop
        self._waits = waits
        self._most_stalls = most_stalls
        self._limit = limit
        self._end = time.monotonic() + limit

    def run(self, function: Callable[[], _Result]) -> _Result:
        """Return the result of one function; raises as ``map`` does."""
        return self.map(lambda _nothing: function(), (None,), 1)[0]

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item], at_once: int) -> list[_Result]:
        """Return the results for all items, ``at_once`` at a time; the first failure ends the others.

        A function that raises a transient RequestFailed is called again. Raises what functions raise, and Interrupted.
        """
        with self._pool(at_once) as pool:
            pending = futures = [pool.submit(self._try, lambda item=item: function(item)) for item in items]
            while pending:
                done, left = wait(pending, timeout=_POLL, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                pending = list(left)
                self._check()
            return [future.result() for future in futures]

    @contextmanager
    def _pool(self, at_once: int) -> Iterator[WorkerPool]:
        with WorkerPool(at_once) as pool:
            try:
                yield pool
            except BaseException:
                self.operation.abort()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _check(self) -> None:
        if self._stop.is_set():
            raise Interrupted("interrupted")
        if self._limit and time.monotonic() > self._end:
            raise RequestFailed(f"no answer in {self._limit:.0f} s: deadline exceeded", transient=True)

    def _try(self, function: Callable[[], _Result]) -> _Result:
        stalls = 0
        for pause in (*self._waits, None):
            try:
                return function()
            except RequestFailed as failure:
                stalls += bool(SLOW.search(str(failure)))
                if pause is None or not failure.transient or stalls > self._most_stalls:
                    raise
                if self.operation.aborted.wait(max(pause, failure.wait)):
                    raise Interrupted("interrupted") from None
        raise AssertionError  # the last try has returned or raised
