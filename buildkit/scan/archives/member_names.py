"""Names of members that must not be extracted."""

from __future__ import annotations

import re

DRIVE = re.compile(r"[A-Za-z]:")


def escapes_folder(name: str) -> bool:
    """Return whether extracting a member of this name would write outside the folder."""
    slashes = name.replace("\\", "/")
    return slashes.startswith("/") or ".." in slashes.split("/") or bool(DRIVE.match(name)) or "\0" in name


def link_escapes_folder(name: str, target: str) -> bool:
    """Return whether a link ``name`` to ``target`` leads outside the folder."""
    if target.startswith("/") or DRIVE.match(target):
        return True
    depth = 0
    for part in (*name.split("/")[:-1], *target.replace("\\", "/").split("/")):
        depth += -1 if part == ".." else int(part not in ("", "."))
        if depth < 0:
            return True
    return False
