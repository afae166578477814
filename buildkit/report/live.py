"""Progress on a terminal: a row for every step at work, with bytes, rate and time left. Imports ``rich``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from buildkit.events import Event, Note, StepFailed, StepFinished, StepPhase, StepProgress, StepStarted
from buildkit.report.columns import Column
from buildkit.report.plain import render_event
from buildkit.report.text import format_bytes, format_progress, format_seconds, sanitize, sanitize_line

_TICK_SECONDS = 0.1


class LiveView:
    """Draws a row for each running step, and a line above the rows for each that ended.

    One lock holds everything that writes: rich redraws from where it believes the cursor to be, and two threads that
    write at once leave remains of rows behind. So the clock that turns the spinners is ours, too.
    """

    def __init__(self, out: TextIO) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[phase]:>8}"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            _Amounts(),
            console=Console(file=out),
            transient=True,
            auto_refresh=False,
        )
        self._progress.start()
        self._closed = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._clock.start()

    def __call__(self, event: Event) -> None:
        """Update the rows for the event."""
        with self._lock:
            match event:
                case StepStarted():
                    row = self._progress.add_task(sanitize_line(event.step), total=event.total, phase=event.phase)
                    self._rows[event.step] = row
                case StepProgress():
                    if event.step in self._rows:
                        self._progress.update(self._rows[event.step], completed=event.done)
                case StepPhase():
                    if event.step in self._rows:
                        doing = sanitize_line(f"{event.step}: {event.phase}")
                        self._progress.update(self._rows[event.step], description=doing)
                case StepFinished() | StepFailed():
                    if event.step in self._rows:
                        self._progress.remove_task(self._rows.pop(event.step))
                    self._print(event, "red" if isinstance(event, StepFailed) else "")
                case Note():
                    self._print(event, "yellow" if event.warning else "dim")

    def close(self) -> None:
        """Remove the rows and restore the terminal."""
        self._closed.set()
        self._clock.join()
        self._progress.stop()

    def _tick(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            with self._lock:
                self._progress.refresh()

    def _print(self, event: StepFinished | StepFailed | Note, style: str) -> None:
        self._progress.print(Text(render_event(event), style=style))


class _Amounts(ProgressColumn):
    """Bytes, rate and time left, where they are known; else the time it has taken."""

    def render(self, task: Task) -> Text:
        return Text(render_amounts(task.completed, task.total, task.speed, task.elapsed or 0.0), style="cyan")


def render_amounts(done: float, total: float | None, speed: float | None, elapsed: float) -> str:
    """Return ``26.3 MB of 111 MB  213 MB/s  1.0 s left``, without the parts that are not known."""
    if not done:
        return format_seconds(elapsed) if elapsed >= 1 else ""
    parts = [format_progress(done, total)]
    if speed:
        parts.append(f"{format_bytes(speed)}/s")
        if total and total > done:
            parts.append(f"{format_seconds((total - done) / speed)} left")
    return "  ".join(parts)


def draw_table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """Draw a table, without colours under NO_COLOR."""
    table = Table(title=Text(sanitize_line(title)), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(sanitize_line(cell)) for cell in row))
    Console(file=out).print(table)


def print_lines(lines: Sequence[Sequence[tuple[str, str]]], out: TextIO) -> None:
    """Print lines of styled texts without wrapping; colours only on a terminal, and not under NO_COLOR."""
    console = Console(file=out, highlight=False)
    for line in lines:
        console.print(Text.assemble(*((sanitize(text), style) for text, style in line)), soft_wrap=True)


@contextmanager
def open_screen(out: TextIO) -> Iterator[Callable[[Sequence[tuple[str, str]]], None]]:
    """Yield a function that replaces what the terminal shows by lines with styles; the screen before comes back."""
    with Live(console=Console(file=out, highlight=False), screen=True, auto_refresh=False) as live:

        def draw(lines: Sequence[tuple[str, str]]) -> None:
            shown = Text("\n").join(Text(sanitize(text), style=style) for text, style in lines)
            shown.no_wrap, shown.overflow = True, "crop"
            live.update(shown, refresh=True)

        yield draw
