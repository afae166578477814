"""Questions to podman that nobody waits for longer than a moment: it may hang, and the kernel has more to say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from buildkit.errors import BuildkitError, ToolError

_PATIENCE = 1.0  # seconds: whoever scrapes waits for ten at most
T = TypeVar("T")


class AskedApart(Generic[T]):
    """Asks in a thread of its own from the second time on, one question at a time; one thread may call it.

    A question that lasts longer than ``patience`` is a ToolError, and its answer is that of a later call, which does
    not wait.
    """

    def __init__(self, ask: Callable[[], T], patience: float = _PATIENCE) -> None:
        self._ask, self._patience = ask, patience
        self._answers: SimpleQueue[tuple[T] | Exception] = SimpleQueue()
        self._has_answered = self._is_waiting = False

    def __call__(self) -> T:
        """Return the answer. Raises what the question raises, and ToolError if it lasts."""
        if not self._has_answered:  # a busy host may need long for the first one, and there is nothing else to say
            answer = self._ask()
            self._has_answered = True
            return answer
        late = self._is_waiting
        if not late:
            threading.Thread(target=self._run, name="podman", daemon=True).start()
            self._is_waiting = True
        try:
            found = self._answers.get(timeout=0 if late else self._patience)
        except Empty:
            raise ToolError(f"no answer within {self._patience:g} s, and none so far") from None
        self._is_waiting = False
        if isinstance(found, Exception):
            raise found
        return found[0]

    def _run(self) -> None:
        try:
            self._answers.put((self._ask(),))
        except BuildkitError as error:
            self._answers.put(error)
