"""Runs tasks concurrently, each as soon as the tasks that it needs are done.

A failure stops the tasks that depend on it; all others run to their end, and every failure is reported once. A full
disk stops everything: no other task starts, and only the first failure counts. Ctrl-C and SIGTERM stop running programs
first, then wait while the tasks undo what they made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from enum import StrEnum

from buildkit.errors import (
    BuildError,
    BuildkitError,
    Interrupted,
    LostError,
    RemoteLostError,
    VersionsGoneError,
    is_disk_error,
)
from buildkit.events import Emit, Event, StepFailed, step
from buildkit.lazy_dataclass import dataclass
from buildkit.tasks.phase_meter import PhaseMeter
from buildkit.tasks.task_id import TaskId, TaskKind
from buildkit.tools import process
from buildkit.worker_pool import WorkerPool

Tasks = Mapping[TaskId, "Task"]


class Lane(StrEnum):
    """The resource that bounds a task; each lane runs a fixed number of tasks at once."""

    CPU = "cpu"
    NET = "net"
    UP = "up"  # uploads to registries; more at once would only share the line
    CONTAINER = "container"  # containers and local storage, which locks itself anyway: one at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a task: bytes and a short note."""

    size: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Work that people see as ``name`` in ``phase``; ``needs`` are the tasks that must be done before.

    A ``quiet`` task emits no events unless it fails. If a task that ``decides`` fails, no other starts any more.
    A task counts as done without running if ``is_needless`` returns true when its turn comes.
    """

    name: str
    phase: str
    lane: Lane
    action: Callable[[], Outcome]
    needs: tuple[TaskId, ...] = ()
    total: int | None = None
    quiet: bool = False
    is_needless: Callable[[], bool] = bool
    decides: bool = False


def run_tasks(tasks: Tasks, lanes: Mapping[Lane, int], emit: Emit, stop: threading.Event, meter: PhaseMeter) -> None:
    """Run all tasks, measured by their phases; ``lanes`` gives how many tasks of each lane run at once.

    Of the tasks that are ready, those that come first in ``tasks`` start first. Raises the failure, one BuildError
    for several failures, or Interrupted.
    """
    waiting, free, no_room = dict(tasks), dict(lanes), threading.Lock()
    running: dict[Future[None], TaskId] = {}
    done: set[TaskId] = set()
    failures: dict[TaskId, BaseException] = {}
    with ExitStack() as stack:
        pools = {lane: stack.enter_context(WorkerPool(count)) for lane, count in lanes.items()}
        try:
            while waiting or running:
                for task_id in () if no_room.locked() else _ready(waiting, done, free):
                    task = waiting.pop(task_id)
                    free[task.lane] -= 1
                    running[pools[task.lane].submit(_run, task_id, task, emit, meter, no_room)] = task_id
                if not running:
                    break  # all that is left depends on a failure
                for future in _wait(running):
                    task_id = running.pop(future)
                    free[tasks[task_id].lane] += 1
                    error = future.exception()
                    if error is None:
                        done.add(task_id)
                    else:
                        failures[task_id] = error
                        if tasks[task_id].decides:
                            waiting.clear()
        except KeyboardInterrupt:
            stop.set()
            process.stop_all()
            raise Interrupted("interrupted; nothing half-built is kept") from None
    _raise([(f"{tasks[task_id].phase} {tasks[task_id].name}", error) for task_id, error in failures.items()])
    if waiting:
        raise ValueError(f"tasks need others that do not exist or never finish: {', '.join(map(str, waiting))}")


def put_first(tasks: Tasks, kind: TaskKind) -> Tasks:
    """Return the same tasks; those of a kind, and what they need, come first."""
    first: set[TaskId] = set()
    found = [task_id for task_id in tasks if task_id.kind is kind]
    while found:
        task_id = found.pop()
        if task_id not in first:
            first.add(task_id)
            found += (need for need in tasks[task_id].needs if need in tasks)
    return dict(sorted(tasks.items(), key=lambda item: item[0] not in first))


def _ready(waiting: Tasks, done: set[TaskId], free: Mapping[Lane, int]) -> list[TaskId]:
    """Return the tasks that can start: all that they need is done, and their lane has room."""
    ready: dict[Lane, list[TaskId]] = {lane: [] for lane in free}
    for task_id, task in waiting.items():
        if len(ready[task.lane]) < free[task.lane] and done.issuperset(task.needs):
            ready[task.lane].append(task_id)
    return [task_id for ids in ready.values() for task_id in ids]


def _wait(running: Mapping[Future[None], TaskId]) -> set[Future[None]]:
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    return finished


def _run(task_id: TaskId, task: Task, emit: Emit, meter: PhaseMeter, no_room: threading.Lock) -> None:
    """Run a task. The first that finds a disk full locks ``no_room``; others fail no more, but are interrupted."""
    if task.is_needless():
        return
    lost: RemoteLostError | None = None
    with step(_only_failures(emit) if task.quiet else emit, task.name, task.phase, task.total) as handle:
        try:
            with meter.phase(task.phase, task.name, {"xoe.lane": task.lane, **task_id.describe()}) as notes:
                outcome = _act(task, no_room)
                notes["xoe.bytes"] = outcome.size
        except RemoteLostError as error:  # no failure of the build; one warning gives the reason for all such layers
            handle.note, lost = "not available, so it is built here", error
        else:
            handle.size, handle.note = outcome.size, outcome.note
    if lost:
        raise lost


def _act(task: Task, no_room: threading.Lock) -> Outcome:
    try:
        return task.action()
    except (BuildError, OSError) as error:
        if is_disk_error(error) and not no_room.acquire(blocking=False):
            raise Interrupted("stopped, because there is no room") from error
        raise


def _only_failures(emit: Emit) -> Emit:
    def emit_failure(event: Event) -> None:
        if isinstance(event, StepFailed):
            emit(event)

    return emit_failure


def _raise(failures: Sequence[tuple[str, BaseException]]) -> None:
    """Raise one error for all failures, each given with the name of its task."""
    for _, error in failures:
        if not isinstance(error, BuildkitError):
            raise error  # a defect in buildkit: with its traceback
    known = [(name, error) for name, error in failures if isinstance(error, BuildkitError)]
    known = [(name, error) for name, error in known if not isinstance(error, Interrupted)] or known[:1]
    if len(known) == 1:
        raise known[0][1]
    if known:
        raise _combine(known)


def _combine(failures: Sequence[tuple[str, BuildkitError]]) -> BuildError:
    lost = [error for _, error in failures if isinstance(error, RemoteLostError)]
    if len(lost) == len(failures):
        return RemoteLostError(
            f"{lost[0].message} (and {len(lost) - 1} more)", reported=any(error.reported for error in lost)
        )
    errors = [error for _, error in failures]
    if all(isinstance(error, LostError) for error in errors):
        return _combine_losses(errors)
    lines = [f"{name}: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else "") for name, error in failures]
    output = "\n".join(f"── {name}\n{error.output}" for name, error in failures if error.output)
    shared = VersionsGoneError if all(isinstance(error, VersionsGoneError) for error in errors) else BuildError
    return shared(f"{len(failures)} steps failed\n" + "\n".join(lines), output=output)


def _combine_losses(errors: Sequence[BuildkitError]) -> LostError:
    """Return one loss for several; two steps may meet the same one. Each step has reported its own."""
    first, more = errors[0], len({error.message for error in errors}) - 1
    others = f" (and {more} more)" if more else ""
    return LostError(first.message + others, hint=first.hint, output=first.output)
