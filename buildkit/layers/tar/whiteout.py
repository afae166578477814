"""Whiteouts: members of a layer that remove paths of the layers below (OCI image specification, "Whiteouts")."""

from __future__ import annotations

WHITEOUT_PREFIX = ".wh."
"""A member of this name and another removes that other path."""

OPAQUE_MARKER = ".wh..wh..opq"
"""A member of this name empties its folder of what lies below."""


def find_removed_path(path: str) -> str:
    """Return the path that a member removes, a folder that it only empties with a slash at its end; "" for neither."""
    folder, _, name = path.rpartition("/")
    if name == OPAQUE_MARKER:
        return f"{folder}/"
    if name.startswith(WHITEOUT_PREFIX):
        return f"{folder}/{name.removeprefix(WHITEOUT_PREFIX)}".lstrip("/")
    return ""
