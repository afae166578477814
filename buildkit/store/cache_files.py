"""What lies in a cache folder, by its files alone; and the removal of what is not wanted.

``sha256/HEX`` are blobs, ``files/HEX/NAME`` downloads and compiled wheels. What has any other name was not put there by
a build: it is counted, and left alone.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_HEX = re.compile(r"[0-9a-f]{64}")
_FOLDERS = ("sha256", "files", "tmp", "locks")
_LEDGER = "ledger.sqlite"
_PASSING = (f"{_LEDGER}-wal", f"{_LEDGER}-shm")  # there while it is open


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file or folder: path below the cache's folder, bytes (of a folder: of all that is in it), last written."""

    path: str
    size: int
    mtime: float

    @property
    def hex(self) -> str:
        """The hash that a blob, a download or a compiled wheel is kept under."""
        return self.path.split("/")[1]

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """A cache folder. ``temporaries`` are half-written; ``ledger`` and ``other`` are bytes."""

    blobs: tuple[Found, ...]
    files: tuple[Found, ...]
    temporaries: tuple[Found, ...]
    locks: tuple[Found, ...]
    ledger: int
    other: int

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        found = (*self.blobs, *self.files, *self.temporaries, *self.locks)
        return self.ledger + self.other + sum(one.size for one in found)


def take_inventory(folder: Path) -> Inventory:
    """Look through a cache folder; what vanishes meanwhile is not there."""
    sorts: dict[str, list[Found]] = {name: [] for name in (*_FOLDERS, "other")}
    for found in _scan(folder):
        sorts[_sort(found)].append(found)
    top = {entry.name: _weigh(entry) for entry in _entries(folder) if entry.name not in (*_FOLDERS, *_PASSING)}
    ledger = top.pop(_LEDGER, 0)
    return Inventory(
        blobs=tuple(sorts["sha256"]),
        files=tuple(sorts["files"]),
        temporaries=tuple(sorts["tmp"]),
        locks=tuple(sorts["locks"]),
        ledger=ledger,
        other=sum(found.size for found in sorts["other"]) + sum(top.values()),
    )


def remove(folder: Path, paths: Iterable[str]) -> None:
    """Remove files and folders below a cache folder; those that are gone already are fine. Raises OSError."""
    for path in paths:
        place = folder / path
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        if path.startswith("files/"):
            with suppress(OSError):  # another file of the same content is in it
                place.parent.rmdir()


def _scan(folder: Path) -> Iterator[Found]:
    for name in ("sha256", "tmp", "locks"):
        yield from (_found(entry, name) for entry in _entries(folder / name))
    for parent in _entries(folder / "files"):
        if parent.is_dir():
            yield from (_found(entry, f"files/{parent.name}") for entry in _entries(Path(parent.path)))
        else:
            yield _found(parent, "files")


def _sort(found: Found) -> str:
    """The folder whose things it belongs to, or ``other``."""
    top, _, rest = found.path.partition("/")
    if top == "tmp":
        return top
    if not _HEX.fullmatch(found.hex):
        return "other"
    if top == "files":
        return "tmp" if found.name.startswith(".") else "files" if "/" in rest else "other"
    return top


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _found(entry: os.DirEntry[str], parent: str) -> Found:
    try:
        mtime = entry.stat().st_mtime
    except OSError:
        mtime = 0.0
    return Found(path=f"{parent}/{entry.name}", size=_weigh(entry), mtime=mtime)


def _weigh(entry: os.DirEntry[str]) -> int:
    """Bytes of a file, or of all files below a folder."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return sum(_weigh(below) for below in _entries(Path(entry.path)))
        return entry.stat().st_size
    except OSError:  # gone meanwhile, or a link to nothing
        return 0
