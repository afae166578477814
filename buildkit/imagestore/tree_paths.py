"""Paths of a layer's members: made safe, led through links within the tree, and told from whiteouts. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping

from buildkit.layers.tar.whiteout import OPAQUE_MARKER, WHITEOUT_PREFIX

_OPAQUE = os.fsencode(OPAQUE_MARKER)
_WHITEOUT = os.fsencode(WHITEOUT_PREFIX)
_AUFS = _WHITEOUT + _WHITEOUT  # bookkeeping of aufs, except for the opaque marker; containers-storage skips it
_LONGEST = 4095  # bytes of a path (limits.h, PATH_MAX)
_MOST_LINKS = 40  # as the kernel


def normalise(path: bytes) -> bytes:
    """Return a member's path, relative to the tree. Raises ValueError if it leaves the tree, or cannot be a path."""
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ValueError("climbs out of its folder")
    if b"\0" in path:
        raise ValueError("has a NUL in its path")
    if len(path) > _LONGEST:
        raise ValueError("is longer than a path may be")
    return b"/".join(parts)


def resolve_folder(folder: bytes, links: Mapping[bytes, bytes]) -> bytes:
    """Return the path of a folder without links, which lead as if the tree were ``/``. Raises ValueError."""
    waiting, at, followed = folder.split(b"/")[::-1], b"", 0
    while waiting:
        part = waiting.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            at = at.rpartition(b"/")[0]
            continue
        path = at + b"/" + part if at else part
        target = links.get(path)
        if target is None:
            at = path
            continue
        followed += 1
        if followed > _MOST_LINKS or len(waiting) > _LONGEST:
            raise ValueError("leads through too many links")
        at = b"" if target.startswith(b"/") else at
        waiting += target.split(b"/")[::-1]
    return at


def find_whiteout(name: bytes) -> bytes | None:
    """Return the name that a whiteout removes, empty if it makes its folder opaque or does nothing; None for others.

    Raises ValueError if it removes what is no name.
    """
    if not name.startswith(_WHITEOUT):
        return None
    if name.startswith(_AUFS):
        return b""
    removed = name[len(_WHITEOUT) :]
    if removed in (b"", b".", b".."):
        raise ValueError("deletes no file")
    return removed


def is_opaque_marker(name: bytes) -> bool:
    """Return whether a member of this name empties its folder of what lies below."""
    return name == _OPAQUE
