"""List the files of a cache folder, and remove some.

``sha256/HEX`` are blobs, ``files/HEX/NAME`` downloads and compiled wheels, or links to wheels of local folders. Files
with other names were not created by a build: they are counted, and stay.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

_HEX = re.compile(r"[0-9a-f]{64}")
_FOLDERS = ("sha256", "files", "tmp", "locks")
_LEDGER = "ledger.sqlite"
_TRANSIENT = (f"{_LEDGER}-wal", f"{_LEDGER}-shm")  # exist while it is open


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFile:
    """A file or folder: its path below the cache's folder, bytes (of a folder: of its content), and mtime.

    A download that is a link has the link's own bytes and mtime; ``broken`` is whether its file is gone.
    """

    path: str
    size: int
    mtime: float
    broken: bool = False

    @property
    def hex(self) -> str:
        """The hash in the path of a blob, a download or a compiled wheel."""
        return self.path.split("/")[1]

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFolder:
    """The content of a cache folder.

    ``temporaries`` are half-written, or links to files that are gone; ``ledger`` and ``other`` are bytes.
    """

    blobs: tuple[CacheFile, ...]
    files: tuple[CacheFile, ...]
    temporaries: tuple[CacheFile, ...]
    locks: tuple[CacheFile, ...]
    ledger: int
    other: int

    @property
    def size(self) -> int:
        """Bytes of everything."""
        files = (*self.blobs, *self.files, *self.temporaries, *self.locks)
        return self.ledger + self.other + sum(file.size for file in files)


def scan_cache_folder(folder: Path) -> CacheFolder:
    """List a cache folder; files that vanish meanwhile count as absent."""
    groups: dict[str, list[CacheFile]] = {name: [] for name in (*_FOLDERS, "other")}
    for found in _scan(folder):
        groups[_group_of(found)].append(found)
    top = {entry.name: _size_of(entry) for entry in _entries(folder) if entry.name not in (*_FOLDERS, *_TRANSIENT)}
    ledger = top.pop(_LEDGER, 0)
    return CacheFolder(
        blobs=tuple(groups["sha256"]),
        files=tuple(groups["files"]),
        temporaries=tuple(groups["tmp"]),
        locks=tuple(groups["locks"]),
        ledger=ledger,
        other=sum(found.size for found in groups["other"]) + sum(top.values()),
    )


def remove(folder: Path, paths: Iterable[str]) -> None:
    """Remove files and folders below a cache folder, unless they are gone already. Raises OSError."""
    for path in paths:
        target = folder / path
        if not target.is_symlink() and target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        if path.startswith("files/"):
            with suppress(OSError):  # it has another file of the same content
                target.parent.rmdir()


def _scan(folder: Path) -> Iterator[CacheFile]:
    for name in ("sha256", "tmp", "locks"):
        yield from (_cache_file(entry, name) for entry in _entries(folder / name))
    for parent in _entries(folder / "files"):
        if parent.is_dir():
            yield from (_download(entry, f"files/{parent.name}") for entry in _entries(Path(parent.path)))
        else:
            yield _cache_file(parent, "files")


def _group_of(found: CacheFile) -> str:
    """Return the subfolder that a file belongs to, or ``other``."""
    top, _, rest = found.path.partition("/")
    if top == "tmp":
        return top
    if not _HEX.fullmatch(found.hex):
        return "other"
    if top == "files":
        is_trash = found.name.startswith(".") or found.broken
        return "tmp" if is_trash else "files" if "/" in rest else "other"
    return top


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _cache_file(entry: os.DirEntry[str], parent: str) -> CacheFile:
    try:
        mtime = entry.stat().st_mtime
    except OSError:
        mtime = 0.0
    return CacheFile(path=f"{parent}/{entry.name}", size=_size_of(entry), mtime=mtime)


def _download(entry: os.DirEntry[str], parent: str) -> CacheFile:
    found = _cache_file(entry, parent)
    with suppress(OSError):  # gone meanwhile
        if entry.is_symlink():
            own = entry.stat(follow_symlinks=False)
            broken = not os.path.exists(entry.path)  # noqa: PTH110 - it may lead where we may not look
            return replace(found, size=own.st_size, mtime=own.st_mtime, broken=broken)
    return found


def _size_of(entry: os.DirEntry[str]) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return sum(_size_of(below) for below in _entries(Path(entry.path)))
        return entry.stat().st_size
    except OSError:  # gone meanwhile, or a link to nothing
        return 0
