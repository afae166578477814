"""Expand variables of a Containerfile as builders do: ``$NAME``, ``${NAME:-word}``, ``${NAME:+word}``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(
    r"\\(?P<escaped>\$)|\$(?:(?P<bare>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?::(?P<how>[-+])(?P<word>[^{}]*))?\})"
)


def expand(text: str, values: Mapping[str, str]) -> str | None:
    """Return the text with its variables replaced; None if one has no value, or is written in another way."""
    unknown = False

    def replace(found: re.Match[str]) -> str:
        nonlocal unknown
        if found["escaped"]:
            return "$"
        value = values.get(found["bare"] or found["name"], "")
        if found["how"] == "+":
            return found["word"] if value else ""
        if not value and found["how"] != "-":
            unknown = True
        return value or found["word"] or ""

    is_odd = "${" in _VARIABLE.sub("", text)
    expanded = _VARIABLE.sub(replace, text)
    return None if unknown or is_odd else expanded
