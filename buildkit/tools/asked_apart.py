"""Questions that nobody waits for longer than a moment: podman or a driver may hang, and others have more to say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from buildkit.errors import ToolError

_PATIENCE = 1.0  # seconds: whoever scrapes waits for ten at most
T = TypeVar("T")


class AskedApart(Generic[T]):
    """Asks in a thread of its own, one question at a time; one thread may call it.

    A question that lasts longer than ``patience`` (seconds) is a ToolError, and its answer is that of a later call,
    which does not wait. The first question may last ``first`` seconds; None: it is asked by who calls, however long.
    """

    def __init__(self, ask: Callable[[], T], patience: float = _PATIENCE, first: float | None = None) -> None:
        self._ask, self._patience, self._first = ask, patience, first
        self._has_asked = False
        self._asked: Future[T] | None = None

    def __call__(self) -> T:
        """Return the answer. Raises what the question raises, and ToolError if it lasts."""
        if not self._has_asked and self._first is None:
            answer = self._ask()
            self._has_asked = True
            return answer
        asked, patience = self._asked, 0.0
        if asked is None:
            patience = self._patience if self._has_asked or self._first is None else self._first
            asked, self._has_asked = Future[T](), True
            threading.Thread(target=self._answer, args=(asked,), name="asked apart", daemon=True).start()
        self._asked = None if wait((asked,), patience).done else asked
        if self._asked:
            raise ToolError(f"no answer within {patience or self._patience:g} s, and none so far")
        return asked.result()

    @property
    def waits(self) -> bool:
        """Whether a question has no answer yet."""
        return self._asked is not None and not self._asked.done()

    def _answer(self, asked: Future[T]) -> None:
        try:
            asked.set_result(self._ask())
        except BaseException as error:  # noqa: BLE001 - `result` raises it, in the thread that asked
            asked.set_exception(error)
