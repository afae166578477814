"""docs/adopt.md says what adoptions cost; `python -m tests.e2e.foreign` measures them again and writes the table."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.foreign import REPOSITORIES, count_lines, find_rows

PAGE = Path(__file__).parents[2] / "docs/adopt.md"


def test_table_has_each_repository_with_its_lines_and_times() -> None:
    rows = find_rows(PAGE.read_text("utf-8"))
    assert [row[:3] for row in rows] == [[foreign.title, str(count_lines(foreign)), "0"] for foreign in REPOSITORIES]
    assert all(re.fullmatch(r"\d+\.\d s", cell) for row in rows for cell in row[3:])
    assert {len(row) for row in rows} == {7}
