"""Paths in files: which of them leave the file's folder."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def find_escape(path: str) -> str | None:
    """Return why ``path`` leaves the folder of the file that names it; None if it does not."""
    if "\0" in path:
        return "contains a NUL"
    parts = re.split(r"[/\\]", path)
    if path.startswith(("/", "\\")):
        return "is absolute"
    if _SCHEME.match(path):
        return "names a drive or a URL"
    if ".." in parts:
        return "leads upward"
    if path.startswith("~"):
        return "starts in a home folder"
    return None
