"""What a build says while it runs. Rendering listens; nothing here draws.

A *step* is a unit of work with a name that people see (``wheels/numpy``, ``fetch onnxruntime``). Bytes are of
the work itself: downloaded for a fetch, unpacked for a pack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """Work on ``step`` began; ``total`` bytes where they are known."""

    step: str
    phase: str
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """``done`` bytes of the step so far (not an increment)."""

    step: str
    done: int


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
    """The step failed; the error itself is raised, this only says which row turns red."""

    step: str
    phase: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something the user should know that stops nothing."""

    text: str
    warning: bool = False


Event = StepStarted | StepProgress | StepFinished | StepFailed | Note
Emit = Callable[[Event], None]


def ignore_event(_event: Event) -> None:
    """A listener that ignores everything."""
