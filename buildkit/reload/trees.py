"""The application's files: which belong to it, which matter, and what changed since they were last looked at."""

from __future__ import annotations

import fnmatch
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

IGNORED = ("__pycache__", "*.pyc", ".*", "*~", "#*#", "4913", "*.tmp", "test_*.py", "*_test.py", "conftest.py")
"""Names that are never part of a running service: bytecode, what editors write beside a file, tests."""

THIRD_PARTY = ("site-packages", "dist-packages")

Stamp = tuple[int, int, int]
"""Modification time in nanoseconds, size, inode: an editor's save changes at least one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppTrees:
    """The folders of an application, absolute, and the patterns of names in them that do not matter."""

    folders: tuple[str, ...]
    ignored: tuple[str, ...] = IGNORED

    def holds(self, path: str) -> bool:
        """Whether a file is the application's own: below a folder, and not installed from a wheel."""
        parts = path.split("/")
        if any(name in parts for name in THIRD_PARTY) or _is_below(path, (sys.prefix,) if _has_own_prefix() else ()):
            return False
        return _is_below(path, self.folders)

    def ignores(self, path: str) -> bool:
        """Whether a change of this file says nothing about the service."""
        folder = next((one for one in self.folders if _is_below(path, (one,))), "/")
        names = os.path.relpath(path, folder).split("/")
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in self.ignored)


def is_third_party(path: str) -> bool:
    """Whether a path belongs to an installed distribution."""
    return any(name in path.split("/") for name in THIRD_PARTY)


def _has_own_prefix() -> bool:
    return sys.prefix != sys.base_prefix


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def scan_trees(trees: AppTrees) -> dict[str, Stamp]:
    """Return the stamp of every file that matters. What vanishes meanwhile is left out."""
    found: dict[str, Stamp] = {}
    for folder in trees.folders:
        for place, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if name not in THIRD_PARTY and not trees.ignores(f"{place}/{name}")]
            for name in files:
                path = f"{place}/{name}"
                if trees.ignores(path) or not trees.holds(path):
                    continue
                stamp = _stamp(path)
                if stamp is not None:
                    found[path] = stamp
    return found


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - ten thousand of them, by name
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def find_changes(before: Mapping[str, Stamp], after: Mapping[str, Stamp]) -> list[str]:
    """Return the paths that came, went or changed, sorted."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
