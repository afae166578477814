"""Numbers in text that others wrote: `str.isdigit` takes digits of other scripts, and ``²``, at which `int` fails."""

from __future__ import annotations

_LONGEST = 18  # below 2 ** 63


def find_number(text: str) -> int | None:
    """Return the number that ``text`` is: 1 to 18 ASCII digits and nothing else; else None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _LONGEST else None
