"""The one rule for paths of a layer's members; wheels, models, copies and roots all pass it.

A runtime interprets some names instead of creating them: a whiteout (``.wh.NAME``) deletes ``NAME`` of the layers
below. No content that is packed here may use such a name (OCI image specification, "Whiteouts").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildkit.layers.tar.whiteout import WHITEOUT_PREFIX

_EMPTY_PART = re.compile(r"(?:^|/)\.?(?:/|\Z)")
_CLIMBING_PART = re.compile(r"(?:^|/)\.\.(?:/|\Z)")
_WHITEOUT = re.compile(rf"(?:^|/){re.escape(WHITEOUT_PREFIX)}")
_LONGEST_NAME = 255  # bytes (limits.h, NAME_MAX)
# every path that one of the rules forbids has a part that is empty, or that begins like this
_SUSPICIOUS = re.compile(rf"(?:^|/)(?:/|\Z|\.\.?(?:/|\Z)|{re.escape(WHITEOUT_PREFIX)})|\0")


def parents_of(path: str) -> Iterator[str]:
    """Yield the folders above a relative path, the nearest first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def find_path_problem(path: str) -> str:
    """Return what is wrong with ``path``, relative to the image's root, as a phrase; the empty string for nothing."""
    if len(path) <= _LONGEST_NAME and path.isascii() and not _SUSPICIOUS.search(path):
        return ""  # nearly every path, many thousand times in a layer
    if path.startswith("/"):
        return "has an absolute path"
    if "\0" in path:
        return "has a NUL in its path"
    if _CLIMBING_PART.search(path):
        return "has a path that climbs out of its folder"
    if _EMPTY_PART.search(path):
        return "has an empty part in its path"
    if _WHITEOUT.search(path):
        return f"has a name that deletes files of the layers below (`{WHITEOUT_PREFIX}…` is a whiteout)"
    try:
        parts = path.encode().split(b"/")
    except UnicodeEncodeError:
        return "has a path that is not UTF-8"
    if max(map(len, parts)) > _LONGEST_NAME:
        return "has a name longer than a file system takes"
    return ""
