"""Tables of results: drawn on a terminal, plain columns otherwise, which need no import of ``rich``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from buildkit.report.columns import Column, print_columns
from buildkit.report.text import sanitize_line

_NUMBERS = ("size", "seconds", "fetch", "build", "import", "push", "cpu", "read", "written", "layers")


def print_table(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """Print ``rows`` as a table below its title; columns of numbers are right-aligned."""
    columns = [Column(title=title, right=title in _NUMBERS) for title in titles]
    if out.isatty():
        from buildkit.report.live import draw_table

        draw_table(title, columns, rows, out)
    else:
        print(f"{sanitize_line(title)}\n", file=out)
        print_columns(columns, rows, out)
        print(file=out)
