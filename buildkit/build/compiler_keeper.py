"""Keeps a bytecode compiler running from one build of a process to the next: to start one takes most of a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from buildkit.errors import BuildkitError
from buildkit.layers.wheel.bytecode import Compiler

Start = Callable[[ExitStack], Compiler]


class CompilerKeeper:
    """Keeps one compiler, of the root that was asked for last; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._kept: tuple[str, Compiler] | None = None

    def get(self, root: str, start: Start) -> Compiler:
        """Return the compiler of a root (the reference of its image), which ``start`` starts if it does not run.

        What ends the compiler is put on the stack that ``start`` is given.
        """
        with self._lock:
            if self._kept is None or self._kept[0] != root or self._kept[1].has_ended:
                self._end()
                with ExitStack() as stack:
                    self._kept = (root, start(stack))
                    self._stack = stack.pop_all()
            return self._kept[1]

    def close(self) -> None:
        """End the compiler."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._kept = None
        with suppress(BuildkitError):  # it was killed, or ended badly: whoever needed its answers has been told
            self._stack.close()
