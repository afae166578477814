"""Columns for people: aligned, never wrapped, no wider than the terminal."""

from __future__ import annotations

import io

import pytest

from buildkit.report.columns import Column, print_columns, render_columns
from buildkit.report.text import format_age

COLUMNS = (Column(title="layer"), Column(title="size", right=True), Column(title="needed by"))
ROWS = [("models/encoder/large/weights.bin", "1.2 GB", "runtime, development, hardened"), ("app", "3 B", "")]


def test_words_are_left_aligned_and_numbers_right_aligned() -> None:
    assert render_columns(COLUMNS, ROWS, None) == [
        "layer                               size  needed by",
        "models/encoder/large/weights.bin  1.2 GB  runtime, development, hardened",
        "app                                  3 B",
    ]


def test_narrow_width_shortens_words_but_not_numbers() -> None:
    assert render_columns(COLUMNS, ROWS, 50) == [
        "layer                   size  needed by",
        "models/enc…ights.bin  1.2 GB  runtime, d… hardened",
        "app                      3 B",
    ]
    assert max(map(len, render_columns(COLUMNS, ROWS, 5))) == 8 + 2 + 6 + 2 + 8, "no narrower than can be read"


def test_empty_columns_are_dropped() -> None:
    assert render_columns(COLUMNS, [("a", "", "b")], None) == ["layer  needed by", "a      b"]


def test_extra_columns_are_dropped_before_words_are_shortened() -> None:
    columns = (*COLUMNS[:2], Column(title="built", right=True, extra=True), COLUMNS[2])
    rows = [(name, size, "3 min", users) for name, size, users in ROWS]
    assert "built" in render_columns(columns, rows, None)[0]
    assert "built" in render_columns(columns, rows, 57)[0]
    assert "built" not in render_columns(columns, rows, 56)[0]


def test_escapes_in_cells_are_removed() -> None:
    assert "\x1b" not in "".join(render_columns(COLUMNS, [("\x1b[31mred", "1", "x")], None))


def test_no_rows_print_nothing() -> None:
    out = io.StringIO()
    print_columns(COLUMNS, [], out)
    assert out.getvalue() == ""
    print_columns(COLUMNS, ROWS, out)
    assert out.getvalue().count("\n") == 3


@pytest.mark.parametrize(
    ("seconds", "formatted"),
    [
        (-9e9, "now"),
        (0.4, "now"),
        (1, "1 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (86399, "23 h"),
        (9e6, "104 d"),
    ],
)
def test_age_is_formatted_in_its_largest_unit(seconds: float, formatted: str) -> None:
    assert format_age(seconds) == formatted
