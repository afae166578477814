"""What the development loop says: a line for every save, or JSON for editors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from buildkit.report.text import format_seconds, sanitize, sanitize_line

_SHOWN = 1  # changed files that a line names


@dataclass(frozen=True, slots=True, kw_only=True)
class Reacted:
    """Something was done about changed files: ``what`` in words (``reloaded``), and how long it took.

    ``action`` is the word for programs (``reload``); ``output`` is what a program or the application said.
    """

    service: str
    files: tuple[str, ...]
    action: str
    what: str
    seconds: float
    ok: bool = True
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Something the user should know: ``event`` is the word for programs (``watching``, ``ready``, ``warning``)."""

    event: str
    text: str
    details: tuple[tuple[str, str], ...] = ()


LoopEvent = Reacted | Said
Tell = Callable[[LoopEvent], None]


class LoopView:
    """Writes what happens: lines for people to ``errors``, or with ``as_json`` a JSON object a line to ``out``."""

    def __init__(
        self, out: TextIO, errors: TextIO, *, as_json: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._out = out
        self._errors = errors
        self._as_json = as_json
        self._clock = clock
        self._lock = threading.Lock()

    def __call__(self, event: LoopEvent) -> None:
        """Write one event."""
        at = self._clock()
        with self._lock:
            if self._as_json:
                self._out.write(json.dumps(render_json(event, at), ensure_ascii=False) + "\n")
                self._out.flush()
            else:
                self._errors.write(render_loop_event(event, at))
                self._errors.flush()


def render_loop_event(event: LoopEvent, at: float) -> str:
    """Return the lines of an event that happened ``at`` seconds after the epoch."""
    if isinstance(event, Said):
        mark = "warning: " if event.event == "warning" else ""
        return f"{mark}{sanitize(event.text)}\n"
    clock = time.strftime("%H:%M:%S", time.localtime(at))
    took = f" {format_took(event.seconds)}" if event.ok else ""
    output = "".join(f"  | {line}\n" for line in sanitize(event.output).splitlines())
    return f"{clock}  {format_files(event.files)}  {sanitize_line(event.what)}{took}\n{output}"


def render_json(event: LoopEvent, at: float) -> dict[str, Any]:
    """Return an event as JSON; ``event`` says which it is, ``at`` is in seconds since the epoch."""
    if isinstance(event, Said):
        return {"event": event.event, "at": round(at, 3), "text": event.text, **dict(event.details)}
    return {
        "event": "reacted",
        "at": round(at, 3),
        "service": event.service,
        "files": list(event.files),
        "action": event.action,
        "ok": event.ok,
        "text": event.what,
        "milliseconds": round(event.seconds * 1000),
        "output": event.output,
    }


def format_files(files: Sequence[str]) -> str:
    """Return ``src/api.py``, or ``src/api.py and 3 more``."""
    named = ", ".join(map(sanitize_line, files[:_SHOWN]))
    more = len(files) - _SHOWN
    return f"{named} and {more} more" if more > 0 else named


def format_took(seconds: float) -> str:
    """Return ``in 84 ms`` or ``in 2.1 s``."""
    return f"in {round(seconds * 1000)} ms" if seconds < 1 else f"in {format_seconds(seconds)}"
