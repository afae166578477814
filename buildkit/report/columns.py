"""Plain columns: as wide as needed in a file, at most as wide as the terminal on one. Nothing is wrapped."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

from buildkit.lazy_dataclass import dataclass
from buildkit.report.text import sanitize_line

_GAP = "  "
_LEAST = 8  # characters: words are not cut shorter
_COMFORT = 20  # characters: extra columns are dropped before words are cut shorter


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column with its title; ``right`` aligns numbers; an ``extra`` column is dropped if there is little room."""

    title: str
    right: bool = False
    extra: bool = False


def print_columns(columns: Sequence[Column], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """Print rows below the titles; print nothing if there are no rows."""
    width = shutil.get_terminal_size().columns if out.isatty() else None
    if rows:
        print("\n".join(render_columns(columns, rows, width)), file=out)


def render_columns(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return lines of at most ``width`` characters, if it is given and words can be shortened that far.

    An empty column is dropped.
    """
    cells = [[column.title for column in columns], *([sanitize_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    shown = [n for n in range(len(columns)) if any(row[n] for row in cells[1:])]
    if width is not None:
        shown = _choose(shown, columns, widths, width)
    chosen = [columns[n] for n in shown]
    fitted = [widths[n] for n in shown]
    if width is not None:
        fitted = _fit(fitted, [not column.right for column in chosen], width)
    return [_line([row[n] for n in shown], chosen, fitted) for row in cells]


def _choose(shown: list[int], columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Drop extra columns until the others fit."""
    left = list(shown)
    for n in (n for n in reversed(shown) if columns[n].extra):
        least = [widths[m] if columns[m].right else min(widths[m], _COMFORT) for m in left]
        if sum(least) + len(_GAP) * (len(least) - 1) <= width:
            break
        left.remove(n)
    return left


def _fit(widths: list[int], may_shrink: Sequence[bool], width: int) -> list[int]:
    """Shrink the widest columns of words first."""
    fitted = list(widths)
    while sum(fitted) + len(_GAP) * (len(fitted) - 1) > width:
        wide = [n for n, may in enumerate(may_shrink) if may and fitted[n] > _LEAST]
        if not wide:
            break
        fitted[max(wide, key=lambda n: fitted[n])] -= 1
    return fitted


def _line(row: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if column.right else _shorten(cell, width).ljust(width)
        for cell, column, width in zip(row, columns, widths, strict=True)
    ]
    return _GAP.join(cells).rstrip()


def _shorten(text: str, width: int) -> str:
    """Cut text in the middle: both ends of a name carry information."""
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"
