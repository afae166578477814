"""A pool of threads that always ends before the block that opened it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool(ThreadPoolExecutor):
    """A ``ThreadPoolExecutor`` whose ``with`` block waits for all work, whenever Ctrl-C arrives.

    The standard pool records a thread after it has started it. Ctrl-C between the two leaves a thread that nobody
    joins: its work would go on after the block, with files and databases that are closed by then.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._running = 0
        self._ended = False
        self._changed = threading.Condition()

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``work(*args, **kwargs)`` in a thread of the pool; the future has its result."""

        def run() -> T:
            with self._changed:
                if self._ended:
                    raise CancelledError
                self._running += 1
            try:
                return work(*args, **kwargs)
            finally:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

        return super().submit(run)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: self._running == 0)
