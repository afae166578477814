"""Measures what each phase of a build takes: seconds, CPU time, and bytes read and written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from buildkit.tools.usage import ResourceUsage, WorkCost, measure_thread

if TYPE_CHECKING:
    from buildkit.tasks.trace_recorder import SpanNotes, TraceRecorder

_NOTHING: Mapping[str, str] = {}


class PhaseMeter:
    """Adds up phases; threads share it. A phase that runs inside another is counted for itself alone.

    ``recorder`` gets each phase as a span, if the build is traced.
    """

    def __init__(self) -> None:
        self.recorder: TraceRecorder | None = None
        self._phases: dict[str, WorkCost] = {}
        self._lock = threading.Lock()
        self._local = threading.local()
        self._began = time.process_time()
        self._own = 0.0  # CPU seconds of our own threads within phases, without the programs that they ran

    def restart(self) -> None:
        """Forget all phases, because another build begins. No phase may be running."""
        with self._lock:
            self._phases.clear()
            self._began, self._own = time.process_time(), 0.0

    def add(self, phase: str, spent: WorkCost) -> None:
        """Add to a phase."""
        with self._lock:
            self._phases[phase] = self._phases.get(phase, WorkCost()) + spent

    @contextmanager
    def phase(self, name: str, subject: str = "", attributes: Mapping[str, str] = _NOTHING) -> Iterator[SpanNotes]:
        """Measure the block, in this thread and in the programs that it runs.

        ``subject`` is what it works on; ``attributes`` say more in a trace, as does what is put into the yielded notes.
        """
        if self.recorder is None:
            with self._measured(name):
                yield {}
            return
        with (
            self.recorder.span(f"{name} {subject}".rstrip(), {"xoe.phase": name, **attributes}) as notes,
            self._measured(name),
        ):
            yield notes

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        before, outer = measure_thread(), getattr(self._local, "inner", None)
        began, own, self._local.inner = time.monotonic(), time.thread_time(), WorkCost()
        try:
            yield
        finally:
            whole = WorkCost(seconds=time.monotonic() - began, usage=measure_thread() - before)
            inner: WorkCost = self._local.inner
            self.add(name, WorkCost(seconds=whole.seconds - inner.seconds, usage=whole.usage - inner.usage))
            if outer is None:
                with self._lock:
                    self._own += time.thread_time() - own
            self._local.inner = None if outer is None else outer + whole

    def read(self) -> Mapping[str, WorkCost]:
        """Return all phases so far.

        The compressor's threads cannot be measured by themselves: ``compress`` gets the CPU time that no phase has.
        """
        with self._lock:
            phases = dict(self._phases)
        if "compress" in phases:
            rest = time.process_time() - self._began - self._own
            phases["compress"] += WorkCost(usage=ResourceUsage(cpu=max(rest, 0.0)))
        return phases
