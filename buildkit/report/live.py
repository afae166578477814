"""Progress on a terminal: a row for every step at work, with bytes, rate and time left. Imports ``rich``."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from buildkit.events import Event, Note, StepFailed, StepFinished, StepProgress, StepStarted
from buildkit.report.plain import render_event
from buildkit.report.words import clean

_NUMBERS = ("size", "seconds")


class LiveView:
    """Rows while steps run; a line above them for each that ended."""

    def __init__(self, out: TextIO) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[phase]:>8}"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(file=out),
            transient=True,
        )
        self._progress.start()

    def __call__(self, event: Event) -> None:
        """Draw what the event changes."""
        with self._lock:
            match event:
                case StepStarted():
                    row = self._progress.add_task(clean(event.step), total=event.total, phase=event.phase)
                    self._rows[event.step] = row
                case StepProgress():
                    if event.step in self._rows:
                        self._progress.update(self._rows[event.step], completed=event.done)
                case StepFinished() | StepFailed():
                    if event.step in self._rows:
                        self._progress.remove_task(self._rows.pop(event.step))
                    self._print(event, "red" if isinstance(event, StepFailed) else "")
                case Note():
                    self._print(event, "yellow" if event.warning else "dim")

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def _print(self, event: StepFinished | StepFailed | Note, style: str) -> None:
        self._progress.print(Text(clean(render_event(event)), style=style))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """A table; columns of numbers lie right. Colours only on a terminal, and not under NO_COLOR."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    Console(file=out, width=None if out.isatty() else 120).print(table)
