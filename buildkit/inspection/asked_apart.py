"""Questions to podman that nobody waits for longer than a moment: it may hang, and the kernel has more to say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from buildkit.errors import ToolError

_PATIENCE = 1.0  # seconds: whoever scrapes waits for ten at most
T = TypeVar("T")


class AskedApart(Generic[T]):
    """Asks in a thread of its own from the second time on, one question at a time; one thread may call it.

    A question that lasts longer than ``patience`` is a ToolError, and its answer is that of a later call, which does
    not wait.
    """

    def __init__(self, ask: Callable[[], T], patience: float = _PATIENCE) -> None:
        self._ask, self._patience = ask, patience
        self._has_answered = False
        self._asked: Future[T] | None = None

    def __call__(self) -> T:
        """Return the answer. Raises what the question raises, and ToolError if it lasts."""
        if not self._has_answered:  # a busy host may need long for the first one, and there is nothing else to say
            answer = self._ask()
            self._has_answered = True
            return answer
        asked, patience = self._asked, 0.0
        if asked is None:
            asked, patience = Future[T](), self._patience
            threading.Thread(target=self._answer, args=(asked,), name="podman", daemon=True).start()
        self._asked = None if wait((asked,), patience).done else asked
        if self._asked:
            raise ToolError(f"no answer within {self._patience:g} s, and none so far")
        return asked.result()

    def _answer(self, asked: Future[T]) -> None:
        try:
            asked.set_result(self._ask())
        except BaseException as error:  # noqa: BLE001 - `result` raises it, in the thread that asked
            asked.set_exception(error)
