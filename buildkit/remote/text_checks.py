"""Checks of the texts that a remote cache sends."""

from __future__ import annotations

import re

from buildkit.hostile_json import MalformedError

MAX_TEXT = 16_384
"""Characters of a name, a path, a link's target or a variable."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BAD_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)")


def check_name(text: str) -> None:
    """Raise MalformedError for a name or a path with control characters, or one that is too long."""
    if _CONTROL.search(text) or len(text) > MAX_TEXT:
        raise MalformedError("a name or a path contains control characters, or is too long")


def check_path(path: str) -> None:
    """Raise MalformedError for anything but a relative path without ``.`` and ``..``."""
    check_name(path)
    if _BAD_PATH.search(path):
        raise MalformedError("a path leads out of the image")
