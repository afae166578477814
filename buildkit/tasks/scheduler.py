"""Runs tasks as soon as what they need is done, several at once.

A failure stops what depends on it and lets the rest finish; every failure is raised once. Ctrl-C and SIGTERM end
running programs first, then wait for the tasks to undo what they made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum

from buildkit.errors import BuildError, BuildkitError, Interrupted, LostError, RemoteLostError
from buildkit.events import Emit, StepFailed, StepFinished, StepStarted
from buildkit.tasks.phase_meter import PhaseMeter
from buildkit.tools import process


class Lane(StrEnum):
    """What a task is bound by; each lane has its own number of places."""

    CPU = "cpu"
    NET = "net"
    UP = "up"  # what goes up to registries; more at once would only share the line
    BOX = "box"  # containers and local storage, one at a time: storage locks itself anyway


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a task says of its result: bytes and a short note."""

    size: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Work that people see as ``name``; ``needs`` are the ids of tasks that must be done before.

    Nothing is said of one that is ``quiet``, unless it fails. One that turns out to be ``needless`` when its turn comes
    is done.
    """

    name: str
    phase: str
    lane: Lane
    action: Callable[[], Outcome]
    needs: tuple[str, ...] = ()
    total: int | None = None
    quiet: bool = False
    needless: Callable[[], bool] = bool


def run_tasks(
    tasks: Mapping[str, Task], places: Mapping[Lane, int], emit: Emit, stop: threading.Event, meter: PhaseMeter
) -> None:
    """Run all (by id), measured by their phases; of those that could begin, the first in order do.

    Raises the failure, one BuildError for several, or Interrupted.
    """
    waiting, free = dict(tasks), dict(places)
    running: dict[Future[None], str] = {}
    done: set[str] = set()
    failures: dict[str, BaseException] = {}
    with ExitStack() as stack:
        pools = {lane: stack.enter_context(ThreadPoolExecutor(count)) for lane, count in places.items()}
        try:
            while waiting or running:
                for name in _next(waiting, done, free):
                    task = waiting.pop(name)
                    free[task.lane] -= 1
                    running[pools[task.lane].submit(_run, task, emit, meter)] = name
                if not running:
                    break  # what is left depends on a failure
                for future in _wait(running):
                    name = running.pop(future)
                    free[tasks[name].lane] += 1
                    error = future.exception()
                    if error is None:
                        done.add(name)
                    else:
                        failures[name] = error
        except KeyboardInterrupt:
            stop.set()
            process.stop_all()
            raise Interrupted("interrupted; nothing half-built is kept") from None
    _raise([(f"{tasks[name].phase} {tasks[name].name}", error) for name, error in failures.items()])
    if waiting:
        raise ValueError(f"steps that wait for what nobody does: {', '.join(waiting)}")


def _next(waiting: Mapping[str, Task], done: set[str], free: Mapping[Lane, int]) -> list[str]:
    """Those that can begin: they need nothing that is not done, and their lane has a place for them."""
    found: dict[Lane, list[str]] = {lane: [] for lane in free}
    for name, task in waiting.items():
        if len(found[task.lane]) < free[task.lane] and done.issuperset(task.needs):
            found[task.lane].append(name)
    return [name for names in found.values() for name in names]


def _wait(running: Mapping[Future[None], str]) -> list[Future[None]]:
    """Block until at least one task has ended; those that have, in the order in which they were started."""
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    return [future for future in running if future in finished]


def _run(task: Task, emit: Emit, meter: PhaseMeter) -> None:
    if task.needless():
        return
    began = time.monotonic()
    if not task.quiet:
        emit(StepStarted(step=task.name, phase=task.phase, total=task.total))
    try:
        with meter.phase(task.phase):
            outcome = task.action()
    except RemoteLostError:
        note = "not to be had, so it is made here"  # one line of why is said for all of them
        emit(StepFinished(step=task.name, phase=task.phase, seconds=time.monotonic() - began, note=note))
        raise
    except BaseException as error:
        message = str(error) or type(error).__name__
        emit(StepFailed(step=task.name, phase=task.phase, message=message.splitlines()[0]))
        raise
    seconds = time.monotonic() - began
    finished = StepFinished(step=task.name, phase=task.phase, seconds=seconds, size=outcome.size, note=outcome.note)
    if not task.quiet:
        emit(finished)


def _raise(failures: Sequence[tuple[str, BaseException]]) -> None:
    for _, error in failures:
        if not isinstance(error, BuildkitError):
            raise error  # a defect of ours: with its traceback
    known = [(name, error) for name, error in failures if isinstance(error, BuildkitError)]
    known = [(name, error) for name, error in known if not isinstance(error, Interrupted)] or known[:1]
    if len(known) == 1:
        raise known[0][1]
    if known:
        lines = [
            f"{name}: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else "") for name, error in known
        ]
        output = "\n".join(f"── {name}\n{error.output}" for name, error in known if error.output)
        lost = [error for _, error in known if isinstance(error, RemoteLostError)]
        if len(lost) == len(known):
            message = f"{lost[0].message} (and {len(lost) - 1} more)"
            raise RemoteLostError(message, reported=any(error.reported for error in lost))
        kind = LostError if all(isinstance(error, LostError) for _, error in known) else BuildError
        raise kind(f"{len(known)} steps failed\n" + "\n".join(lines), output=output)
