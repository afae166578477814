"""Measure a command: seconds, CPU and peak memory, including the daemons that work for it. From proc(5)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.tools.process import Command, CommandResult, run
from buildkit.tools.usage import measure_thread, read_cpu

_EVERY_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """Wall-clock and CPU seconds, and peak anonymous memory in bytes (None if the kernel does not report it).

    Memory is the sum over all processes at one moment, sampled every tenth of a second; a page that several share,
    because one was forked from another, counts once.
    """

    seconds: float
    cpu: float
    memory: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """A finished command: its result (None if it failed), output and cost. ``error`` tells how it failed."""

    finished: CommandResult | None
    output: str
    cost: RunCost
    error: str = ""


def measure(commands: Sequence[Command], daemons: Sequence[int] = ()) -> MeasuredRun:
    """Run commands one after another until one fails. ``daemons`` are processes that work for them.

    Raises only Interrupted: a failing command is a result.
    """
    before = sum(map(_tree_cpu, daemons))
    idle = frozenset(_children(os.getpid())) - set(daemons)
    used, began = measure_thread(), time.monotonic()
    finished, output, failure = None, "", ""
    with _Watch(daemons, idle) as watch:
        try:
            for command in commands:
                finished = run(command)
                output += _text(finished)
        except BuildError as error:
            finished, output, failure = None, f"{output}{error.output}".strip(), error.message
    seconds = time.monotonic() - began
    cpu = (measure_thread() - used).cpu + sum(map(_tree_cpu, daemons)) - before
    cost = RunCost(seconds=seconds, cpu=cpu, memory=watch.peak)
    return MeasuredRun(finished=finished, output=output, cost=cost, error=failure)


def _text(finished: CommandResult) -> str:
    return (finished.stdout + finished.stderr).decode("utf-8", "replace")


class _Watch:
    """Sample memory until the context ends: of our non-``idle`` children, their descendants, and the daemons."""

    def __init__(self, daemons: Iterable[int], idle: frozenset[int]) -> None:
        self._daemons = tuple(daemons)
        self._idle = idle
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
        self.peak: int | None = None

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            roots = [pid for pid in _children(os.getpid()) if pid not in self._idle]
            sizes = [_anonymous(pid) for root in {*roots, *self._daemons} for pid in _tree(root)]
            if known := [size for size in sizes if size is not None]:
                self.peak = max(self.peak or 0, sum(known))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _tree(child)


def _children(pid: int) -> list[int]:
    """Return the children of all threads; none if the kernel was built without this file."""
    children: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text("ascii").split())
    except OSError:
        return children
    return children


def _anonymous(pid: int) -> int | None:
    """Return the bytes of a process's anonymous memory, of shared pages its share."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8", "replace")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    return None


def _tree_cpu(pid: int) -> float:
    """Return the CPU time of living processes below ``pid``, including children they have waited for."""
    return sum(map(read_cpu, _tree(pid)))
