"""Paths that files name: which of them lead somewhere else."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def find_escape(path: str) -> str | None:
    """Why ``path`` does not stay beside the file that names it; None where it does."""
    if "\0" in path:
        return "holds a NUL"
    parts = re.split(r"[/\\]", path)
    if path.startswith(("/", "\\")):
        return "is absolute"
    if _SCHEME.match(path):
        return "names a drive or an address"
    if ".." in parts:
        return "leads upward"
    if path.startswith("~"):
        return "starts in somebody's home"
    return None
