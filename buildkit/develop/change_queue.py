"""Changes that wait for the one who acts on them: none is lost, and however many come, they are one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable


class ChangeQueue:
    """Collects changed paths from any thread. What comes while a batch is worked on is the next batch."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: set[str] = set()
        self._closed = False
        self._error: BaseException | None = None

    def add(self, paths: Iterable[str]) -> None:
        """Add changed paths."""
        with self._condition:
            self._waiting.update(paths)
            self._condition.notify()

    def close(self, error: BaseException | None = None) -> None:
        """Let ``take`` return None, or raise ``error``."""
        with self._condition:
            self._closed = True
            self._error = self._error or error
            self._condition.notify()

    def take(self, timeout: float | None = None) -> frozenset[str] | None:
        """Return everything that has come since the last call, waiting for it; None when closed.

        After ``timeout`` seconds without a change, the set is empty.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._closed, timeout)
            if self._error is not None:
                raise self._error
            if self._closed:
                return None
            taken = frozenset(self._waiting)
            self._waiting.clear()
            return taken


class SingleRunner:
    """Runs one action in a thread of its own, never twice at once: requests that come meanwhile become one more run.

    ``action`` gets everything that was requested since its last start. It must not raise.
    """

    def __init__(self, action: Callable[[frozenset[str]], None]) -> None:
        self._queue = ChangeQueue()
        self._action = action
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def request(self, causes: Iterable[str]) -> None:
        """Run the action soon, with these causes."""
        self._queue.add(causes)

    def close(self) -> None:
        """Let a running action end, start no other, and return."""
        self._queue.close()
        self._thread.join()

    def _run(self) -> None:
        while (causes := self._queue.take()) is not None:
            self._action(causes)
