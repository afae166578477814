"""Tables of results: drawn on a terminal, plain columns elsewhere, where nothing needs to be imported for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from buildkit.report.columns import Column, print_columns
from buildkit.report.text import flat

_NUMBERS = ("size", "seconds", "fetch", "build", "import", "push", "cpu", "read", "written", "layers")


def print_table(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """A table of ``rows`` below its title; columns of numbers lie right."""
    columns = [Column(title=title, right=title in _NUMBERS) for title in titles]
    if out.isatty():
        from buildkit.report.live import draw_table

        draw_table(title, columns, rows, out)
    else:
        print(f"{flat(title)}\n", file=out)
        print_columns(columns, rows, out)
        print(file=out)
