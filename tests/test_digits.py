"""Only ASCII digits are numbers, and no more of them than are used."""

from __future__ import annotations

import pytest

from buildkit.digits import find_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert find_number(text) == number


@pytest.mark.parametrize(
    "text", ["", " 1", "1\n", "+1", "-1", "1_0", "0x1", "1.0", "²", "٣", "１", "9" * 19, "9" * 5000]
)
def test_everything_else_is_none(text: str) -> None:
    assert find_number(text) is None
