"""The events of a build. The views in ``buildkit.report`` listen to them; nothing here draws.

A *step* is a unit of work with a name that people see (``wheels/numpy``, ``fetch onnxruntime``). Byte counts belong to
the work itself: bytes downloaded for a fetch, bytes unpacked for a pack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from buildkit.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """Work on ``step`` began; ``total`` is its size in bytes, None where that is unknown."""

    step: str
    phase: str
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """``done`` is the number of bytes processed so far, not an increment."""

    step: str
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPhase:
    """What a step of several phases does from now on, in a few words."""

    step: str
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """The step is complete; ``note`` is a short result for people."""

    step: str
    phase: str
    seconds: float
    size: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    """The step failed. The error itself is raised; this event only turns the step's row red."""

    step: str
    phase: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something the user should know that does not stop the build."""

    text: str
    warning: bool = False


Event = StepStarted | StepProgress | StepPhase | StepFinished | StepFailed | Note
Emit = Callable[[Event], None]


def ignore_event(_event: Event) -> None:
    """Ignore the event: a listener for callers that show no progress."""


class StepHandle:
    """What a running step reports about itself: set ``size`` (bytes) and ``note`` before it ends."""

    __slots__ = ("_emit", "_step", "note", "size")

    def __init__(self, emit: Emit, step: str) -> None:
        self.size = 0
        self.note = ""
        self._emit = emit
        self._step = step

    def progress(self, done: int) -> None:
        """Report the bytes processed so far."""
        self._emit(StepProgress(step=self._step, done=done))


@contextmanager
def step(emit: Emit, name: str, phase: str, total: int | None = None) -> Iterator[StepHandle]:
    """Emit the start of a step, then its end: StepFinished, or StepFailed with the first line of what was raised.

    Every exception fails the step, interrupts included, so that no view keeps a row of a step that has ended.
    """
    emit(StepStarted(step=name, phase=phase, total=total))
    began = time.monotonic()
    handle = StepHandle(emit, name)
    try:
        yield handle
    except BaseException as error:
        emit(StepFailed(step=name, phase=phase, message=describe_failure(error)))
        raise
    seconds = time.monotonic() - began
    emit(StepFinished(step=name, phase=phase, seconds=seconds, size=handle.size, note=handle.note))


def describe_failure(error: BaseException) -> str:
    """Return the first line of an error's message; the name of its type for one without a message."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return next(iter(str(error).splitlines()), "") or type(error).__name__
