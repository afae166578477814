"""The ``step`` context manager: every step that starts ends exactly once."""

from __future__ import annotations

import pytest

from buildkit.errors import BuildError, BuildkitError, DefinitionError, Interrupted
from buildkit.events import Event, StepFailed, StepFinished, StepProgress, StepStarted, step


def test_step_emits_start_progress_and_finish_with_size_and_note() -> None:
    events: list[Event] = []
    with step(events.append, "wheels/numpy", "pack", total=100) as handle:
        assert events == [StepStarted(step="wheels/numpy", phase="pack", total=100)]
        handle.progress(40)
        handle.size = 100
        handle.note = "compressed"
    assert events[1] == StepProgress(step="wheels/numpy", done=40)
    finished = events[2]
    assert isinstance(finished, StepFinished)
    assert (finished.step, finished.phase, finished.size, finished.note) == ("wheels/numpy", "pack", 100, "compressed")
    assert 0 <= finished.seconds < 60
    assert len(events) == 3


def test_step_without_size_or_total_emits_zero_size_and_unknown_total() -> None:
    events: list[Event] = []
    with step(events.append, "x", "copy"):
        pass
    assert events[0] == StepStarted(step="x", phase="copy", total=None)
    assert isinstance(events[1], StepFinished)
    assert (events[1].size, events[1].note) == (0, "")


@pytest.mark.parametrize("kind", [BuildError, DefinitionError, Interrupted])
def test_step_emits_failure_with_first_line_of_message_and_raises_the_error(kind: type[BuildkitError]) -> None:
    events: list[Event] = []
    error = kind("2 problems:\n  - a\n  - b")
    with pytest.raises(kind) as caught, step(events.append, "x", "lock"):
        raise error
    assert caught.value is error
    assert events[1:] == [StepFailed(step="x", phase="lock", message="2 problems:")]


@pytest.mark.parametrize(
    ("error", "message"),
    [(KeyboardInterrupt(), "interrupted"), (OSError("gone"), "gone"), (ValueError(), "ValueError")],
)
def test_step_fails_for_interrupts_and_foreign_errors(error: BaseException, message: str) -> None:
    events: list[Event] = []
    with pytest.raises(type(error)), step(events.append, "x", "hash"):
        raise error
    assert events[1:] == [StepFailed(step="x", phase="hash", message=message)]
