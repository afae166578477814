from __future__ import annotations

import os
from pathlib import Path

import pytest

from memory import count_memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("memory.max", "1048576\n", 1 << 20),
        ("memory.max", "max\n", MACHINE),
        ("memory.max", "0\n", MACHINE),
        ("memory/memory.limit_in_bytes", "2097152\n", 2 << 20),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", MACHINE),
        ("other", "", MACHINE),
    ],
)
def test_the_smaller_of_limit_and_machine_counts(tmp_path: Path, name: str, text: str, expected: int) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="ascii")
    assert count_memory(tmp_path) == expected
