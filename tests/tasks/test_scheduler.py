"""The scheduler: order, concurrency, failures that are reported once, and interrupts."""

from __future__ import annotations

import errno
import functools
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.errors import (
    BuildError,
    BuildkitError,
    DefinitionError,
    Interrupted,
    LostError,
    RemoteLostError,
    ToolError,
    VersionsGoneError,
)
from buildkit.events import Event, StepFailed, StepFinished, StepStarted, ignore_event
from buildkit.tasks.phase_meter import PhaseMeter
from buildkit.tasks.scheduler import Lane, Outcome, Task, put_first, run_tasks
from buildkit.tasks.task_id import TaskId, TaskKind
from buildkit.tools.usage import WorkCost

LIMITS = {Lane.CPU: 2, Lane.NET: 4, Lane.UP: 3, Lane.CONTAINER: 1}


def task(
    name: str, action: Callable[[], object] = lambda: None, *needs: str, lane: Lane = Lane.CPU, phase: str = "pack"
) -> Task:
    def outcome() -> Outcome:
        action()
        return Outcome(size=3, note="done")

    return Task(name=name, phase=phase, lane=lane, action=outcome, needs=tuple(map(task_id, needs)))


def task_id(name: str) -> TaskId:
    return TaskId(TaskKind.LAYER, name)


def run(*tasks: Task, events: list[Event] | None = None) -> Mapping[str, WorkCost]:
    by_id, meter = {task_id(task.name): task for task in tasks}, PhaseMeter()
    run_tasks(by_id, LIMITS, ignore_event if events is None else events.append, threading.Event(), meter)
    return meter.read()


def fail(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


def test_run_tasks_without_tasks_does_nothing() -> None:
    assert run() == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(0, 14)), st.sampled_from(list(Lane))), max_size=15))
def test_every_task_runs_once_after_the_tasks_it_needs(shape: list[tuple[set[int], Lane]]) -> None:
    done: list[str] = []
    tasks = []
    for number, (wanted, lane) in enumerate(shape):
        needs = [str(other) for other in wanted if other < number]
        tasks.append(task(str(number), lambda n=str(number): done.append(n), *needs, lane=lane))
    run(*reversed(tasks))
    assert sorted(done) == sorted(found.name for found in tasks)
    for found in tasks:
        assert all(done.index(need.name) < done.index(found.name) for need in found.needs)


def test_ready_tasks_start_in_order() -> None:
    """Even if later ones were ready before: layers are in order, and the lowest is needed first."""
    started_tasks: list[str] = []
    late = [
        task(str(number), lambda n=str(number): started_tasks.append(n), "gate", lane=Lane.CONTAINER)
        for number in range(3)
    ]
    early = [task(name, lambda n=name: started_tasks.append(n), lane=Lane.CONTAINER) for name in "abc"]
    gate = task("gate", lambda: None, "a", lane=Lane.CONTAINER)
    run(gate, *late, *early)
    assert started_tasks == ["a", "0", "1", "2", "b", "c"]


def test_put_first_moves_a_kind_with_what_it_needs() -> None:
    compiling = TaskId(TaskKind.COMPILE_WHEEL, "x")
    tasks = {task_id(name): task(name) for name in ("light", "builder/root", "builder/wheels", "heavy")}
    tasks[compiling] = task("x", lambda: None, "builder/wheels", "fetched before")
    tasks[task_id("builder/wheels")] = task("builder/wheels", lambda: None, "builder/root")
    tasks[task_id("top")] = task("top", lambda: None, "light")
    moved = put_first(tasks, TaskKind.COMPILE_WHEEL)
    assert [str(one.name) for one in moved] == ["builder/root", "builder/wheels", "x", "light", "heavy", "top"]
    assert moved == tasks
    assert list(put_first(tasks, TaskKind.UPLOAD)) == list(tasks)


def test_quiet_task_emits_only_a_failure() -> None:
    events: list[Event] = []
    run(replace(task("a"), quiet=True), events=events)
    assert events == []
    with pytest.raises(BuildError):
        run(replace(task("a", fail(BuildError("no"))), quiet=True), events=events)
    assert [type(event) for event in events] == [StepFailed]


def test_needless_task_counts_as_done_without_running() -> None:
    events: list[Event] = []
    before: list[str] = []
    needless = replace(task("b", fail(BuildError("no")), "a"), is_needless=lambda: bool(before))
    run(needless, task("a", lambda: before.append("a")), task("c", lambda: before.append("c"), "b"), events=events)
    assert before == ["a", "c"]
    assert {event.step for event in events if isinstance(event, StepStarted)} == {"a", "c"}


def test_lanes_run_concurrently_up_to_their_limits() -> None:
    lanes = [Lane.CPU] * 2 + [Lane.NET] * 4 + [Lane.UP] * 3 + [Lane.CONTAINER]
    met = threading.Barrier(len(lanes), timeout=60)  # breaks unless all run at once
    run(*(task(str(number), met.wait, lane=lane) for number, lane in enumerate(lanes)))


@pytest.mark.parametrize("lane", list(Lane))
def test_no_lane_exceeds_its_limit(lane: Lane) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.01)
        with lock:
            now -= 1

    run(*(task(str(number), work, lane=lane) for number in range(8)))
    assert most <= LIMITS[lane]


def test_seconds_add_up_by_phase() -> None:
    wait = threading.Event()
    spent = run(
        task("a", lambda: wait.wait(0.02), phase="fetch"),
        task("b", lambda: wait.wait(0.02), phase="fetch"),
        task("c", phase="pack"),
    )
    assert set(spent) == {"fetch", "pack"}
    assert spent["fetch"].seconds >= 0.04
    assert spent["pack"].seconds >= 0


def test_task_emits_start_and_finish() -> None:
    events: list[Event] = []
    run(task("a"), events=events)
    assert events[0] == StepStarted(step="a", phase="pack")
    assert isinstance(events[1], StepFinished)
    assert (events[1].step, events[1].phase, events[1].size, events[1].note) == ("a", "pack", 3, "done")


def test_task_that_moved_no_bytes_reports_none() -> None:
    events: list[Event] = []
    run(replace(task("a"), action=Outcome), events=events)
    assert [event.size for event in events if isinstance(event, StepFinished)] == [0]


def test_failure_stops_dependent_tasks_and_lets_others_finish() -> None:
    done: list[str] = []
    events: list[Event] = []
    error = ToolError("it broke\nbadly", hint="mend it", output="its output")
    with pytest.raises(ToolError) as caught:
        run(
            task("broken", fail(error)),
            task("above", lambda: done.append("above"), "broken"),
            task("top", lambda: done.append("top"), "above", "free"),
            task("free", lambda: done.append("free"), lane=Lane.NET),
            task("after", lambda: done.append("after"), "free"),
            events=events,
        )
    assert caught.value is error
    assert done == ["free", "after"]
    assert [event for event in events if isinstance(event, StepFailed)] == [
        StepFailed(step="broken", phase="pack", message="it broke")
    ]


@pytest.mark.parametrize(
    "error",
    [
        BuildError("/cache: the disk is full", hint="free some room"),
        ToolError("`x` failed with exit code 1: the disk quota is used up"),
        BuildError("/cache: the file system is read-only"),
        OSError(errno.ENOSPC, "No space left on device", "/cache/x"),
    ],
)
def test_first_full_disk_stops_everything_and_is_said_once(error: Exception) -> None:
    meeting, began, events = threading.Barrier(2, timeout=60), list[int](), list[Event]()

    def act(number: int) -> None:
        began.append(number)
        if number < 2:
            meeting.wait()  # both find it at once
            raise error

    acts = [functools.partial(act, number) for number in range(50)]
    with pytest.raises(type(error)) as caught:
        run(*(task(str(number), act) for number, act in enumerate(acts)), events=events)
    assert str(caught.value) == str(error)
    assert sorted(began) == [0, 1]
    failed = [event.message for event in events if isinstance(event, StepFailed)]
    assert sorted(failed) == sorted([str(error), "stopped, because there is no room"])


def test_several_failures_become_one_error_with_all_hints_and_outputs() -> None:
    with pytest.raises(BuildError) as caught:
        run(
            task("a", fail(ToolError("one", hint="do this", output="out of a"))),
            task("b", fail(DefinitionError("two")), lane=Lane.NET, phase="fetch"),
        )
    assert caught.value.exit_code == 1
    lines = caught.value.message.splitlines()
    assert lines[0] == "2 steps failed"
    assert sorted(lines[1:]) == ["  hint: do this", "fetch b: two", "pack a: one"]
    assert caught.value.output == "── pack a\nout of a"


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([Interrupted("interrupted"), Interrupted("interrupted")], Interrupted),
        ([Interrupted("interrupted"), ToolError("no disk left")], ToolError),
    ],
)
def test_interrupted_tasks_neither_hide_a_failure_nor_become_one(
    errors: list[BuildkitError], expected: type[BuildkitError]
) -> None:
    with pytest.raises(BuildkitError) as caught:
        run(*(task(str(number), fail(error)) for number, error in enumerate(errors)))
    assert type(caught.value) is expected


@pytest.mark.parametrize("reported", [False, True])
def test_layers_lost_by_the_remote_cache_become_one_error_that_counts_the_others(reported: bool) -> None:
    """The build then plans again, so it must stay an error of that kind, and be reported once at most."""
    errors = [RemoteLostError("lost", reported=reported and number == 2) for number in range(3)]
    with pytest.raises(RemoteLostError) as caught:
        run(*(task(str(number), fail(error)) for number, error in enumerate(errors)))
    assert (caught.value.message, caught.value.reported) == ("lost (and 2 more)", reported)


@pytest.mark.parametrize(("second", "end"), [("app.whl is gone", "whl is gone"), ("ml.whl is gone", "(and 1 more)")])
def test_what_two_steps_lost_is_one_loss(second: str, end: str) -> None:
    losses = [LostError(message, hint="build again") for message in ("app.whl is gone", second)]
    with pytest.raises(LostError, match=re.escape(end) + "$") as caught:
        run(*(task(str(number), fail(loss)) for number, loss in enumerate(losses)))
    assert caught.value.hint == "build again"


@pytest.mark.parametrize(
    ("second", "expected"), [(VersionsGoneError("b is gone"), VersionsGoneError), (ToolError("b failed"), BuildError)]
)
def test_roots_whose_versions_are_gone_are_one_error_of_that_kind(
    second: BuildkitError, expected: type[BuildkitError]
) -> None:
    with pytest.raises(BuildError, match="2 steps failed") as caught:
        run(task("a", fail(VersionsGoneError("a is gone"))), task("b", fail(second)))
    assert type(caught.value) is expected


def test_failures_of_tasks_with_equal_names_are_all_reported() -> None:
    tasks = {task_id(str(n)): task("same", fail(BuildError(f"error {n}"))) for n in range(3)}
    with pytest.raises(BuildError, match="3 steps failed") as caught:
        run_tasks(tasks, LIMITS, ignore_event, threading.Event(), PhaseMeter())
    assert all(f"error {n}" in caught.value.message for n in range(3))


def test_unexpected_exception_takes_precedence_over_known_errors() -> None:
    with pytest.raises(ZeroDivisionError):
        run(task("a", fail(BuildError("x"))), task("b", lambda: 1 // 0))


@pytest.mark.parametrize("needs", [("nobody",), ("self",)])
def test_tasks_that_can_never_run_raise_value_error(needs: tuple[str, ...]) -> None:
    done: list[str] = []
    with pytest.raises(ValueError, match=r"never finish: layer:self$"):
        run(task("self", lambda: None, *needs), task("free", lambda: done.append("free")))
    assert done == ["free"]


INTERRUPTED = """
import os, signal, sys, threading, time
from buildkit.tools.interrupts import interruptible
from buildkit.tasks.phase_meter import PhaseMeter
from buildkit.tasks.scheduler import Lane, Outcome, Task, run_tasks
from buildkit.tasks.task_id import TaskId, TaskKind
from buildkit.errors import Interrupted
from buildkit.tools.process import Command, run

started = threading.Event()
log = []

def task_id(name):
    return TaskId(TaskKind.LAYER, name)

def program():
    started.set()
    try:
        run(Command(argv=("sleep", "60")))
    finally:
        log.append(run(Command(argv=("echo", "undone"), is_cleanup=True)).text)
    return Outcome()

def quiet():
    log.append("this must never start")
    return Outcome()

def interrupt():
    started.wait()
    time.sleep(0.2)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))

tasks = {task_id("a"): Task(name="a", phase="run", lane=Lane.CONTAINER, action=program)}
tasks |= {task_id(str(n)): Task(name=str(n), phase="run", lane=Lane.CONTAINER, action=quiet) for n in range(5)}
tasks[task_id("z")] = Task(name="z", phase="run", lane=Lane.CPU, action=quiet, needs=(task_id("a"),))
threading.Thread(target=interrupt).start()
stop = threading.Event()
began = time.monotonic()
try:
    with interruptible():
        run_tasks(tasks, {Lane.CONTAINER: 1, Lane.CPU: 1}, lambda event: None, stop, PhaseMeter())
except Interrupted as error:
    print(error, error.exit_code, stop.is_set(), time.monotonic() - began < 30, log, sep="; ")
"""


@pytest.mark.tools
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupt_stops_programs_undoes_their_work_and_starts_nothing(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, name], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "interrupted; nothing half-built is kept; 130; True; True; ['undone']\n"


def test_no_task_starts_after_one_that_decides_has_failed() -> None:
    ran: list[str] = []

    def fail() -> None:
        raise BuildError("two files at one path")

    first = replace(task("check", fail), decides=True)
    others = [task(f"t{n}", lambda: ran.append("x"), "check0") for n in range(3)]
    slow = task("check0", lambda: threading.Event().wait(0.2))
    with pytest.raises(BuildError, match="two files at one path"):
        run(first, slow, *others)
    assert not ran
