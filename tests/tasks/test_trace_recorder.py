"""Spans of threads: whom they belong to, and how they end."""

from __future__ import annotations

import threading

import pytest

from buildkit.tasks.phase_meter import PhaseMeter
from buildkit.tasks.trace_recorder import TraceRecorder


def test_spans_belong_to_the_one_around_them_or_to_the_scope() -> None:
    recorder, meter = TraceRecorder(), PhaseMeter()
    meter.recorder = recorder

    def work() -> None:
        with meter.phase("run", "step"), meter.phase("commit"):
            pass

    with recorder.scope("build", {}), recorder.scope("stage app", {}):
        with meter.phase("plan"):
            pass
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    with recorder.span("after", {}):
        pass
    spans = recorder.read()
    names = {span.name: spans[span.parent].name if span.parent is not None else "" for span in spans}
    assert names == {
        "build": "",
        "stage app": "build",
        "plan": "stage app",
        "run step": "stage app",
        "commit": "run step",
        "after": "",
    }
    assert dict(spans[3].attributes) == {"xoe.phase": "run"}
    assert set(meter.read()) == {"plan", "run", "commit"}


def test_times_follow_the_clock_that_never_jumps() -> None:
    ticks = iter((10, 20, 70))
    recorder = TraceRecorder(clock=lambda: next(ticks), now=lambda: 1_000_000)
    with recorder.span("x", {}):
        pass
    (span,) = recorder.read()
    assert (span.began, span.ended) == (1_000_010, 1_000_060)


def test_failure_is_that_of_the_error_and_what_still_runs_ends_now() -> None:
    recorder = TraceRecorder()
    with recorder.scope("build", {}):
        with pytest.raises(KeyboardInterrupt), recorder.span("x", {}):
            raise KeyboardInterrupt
        build, x = recorder.read()
    assert (build.failure, x.failure) == (None, "interrupted")
    assert build.ended >= x.ended > 0


def test_attributes_are_added_in_the_scope_only() -> None:
    recorder = TraceRecorder()
    with recorder.scope("one", {}), recorder.span("pack", {"key": "a"}):
        pass
    with recorder.scope("two", {}):
        assert not recorder.note_last("key", "a", {"n": 1})
        with recorder.span("pull", {"key": "a"}), recorder.span("pack", {"key": "a"}):
            pass
        assert recorder.note_last("key", "a", {"n": 2})
    assert [dict(span.attributes).get("n") for span in recorder.read()] == [None, None, None, None, 2]
