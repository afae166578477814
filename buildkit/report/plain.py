"""Progress as plain lines, for logs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

from buildkit.command_names import name_commands
from buildkit.events import Event, Note, StepFailed, StepFinished, StepPhase, StepProgress, StepStarted
from buildkit.report.text import format_bytes, format_progress, format_seconds, sanitize_line

_EVERY_SECONDS = 10.0


class PlainView:
    """Writes a line when a step ends, and every ten seconds for a step that takes long."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()
        self._totals: dict[str, int | None] = {}
        self._printed_at: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Write a line for the event, if it deserves one."""
        with self._lock:
            line = self._line(event)
            if line:
                print(line, file=self._out, flush=True)

    def _line(self, event: Event) -> str:
        match event:
            case StepStarted():
                self._totals[event.step] = event.total
                self._printed_at[event.step] = self._clock()
                return ""
            case StepProgress():
                return self._progress(event)
            case StepPhase():
                return f"{'…':>8}  {sanitize_line(event.step)}: {sanitize_line(event.phase)}"
            case _:
                return render_event(event)

    def _progress(self, event: StepProgress) -> str:
        now = self._clock()
        if now - self._printed_at.get(event.step, now) < _EVERY_SECONDS:
            return ""
        self._printed_at[event.step] = now
        return f"{'…':>8}  {sanitize_line(event.step)}: {format_progress(event.done, self._totals.get(event.step))}"


def render_event(event: StepFinished | StepFailed | Note) -> str:
    """Return one sanitized line for a step that ended, or for a note; CI reads commands at the beginnings of lines."""
    match event:
        case StepFinished():
            size = f"  {format_bytes(event.size)}" if event.size else ""
            note = f"  {sanitize_line(event.note)}" if event.note else ""
            return f"{event.phase:>8}  {sanitize_line(event.step)}{size}  {format_seconds(event.seconds)}{note}"
        case StepFailed():
            return f"{event.phase:>8}  {sanitize_line(event.step)}: failed: {sanitize_line(event.message)}"
        case Note():
            return f"{'warning' if event.warning else 'note':>8}  {sanitize_line(name_commands(event.text))}"
