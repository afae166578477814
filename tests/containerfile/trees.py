"""The files of an image of any builder, read from the tar of a container."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_KINDS = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, folder or link: mode bits, owner, and content (a hash, or the target of a link)."""

    kind: str
    mode: int
    owner: tuple[int, int]
    holds: str = ""


def read_tree(file: IO[bytes]) -> dict[str, Entry]:
    """Every path of a tar, without its leading slash; a hard link is the file that it shares."""
    found: dict[str, Entry] = {}
    with tarfile.open(fileobj=file, mode="r|") as tar:
        for info in tar:
            path = info.name.removeprefix("./").strip("/")
            if info.islnk():
                found[path] = found[info.linkname.removeprefix("./").strip("/")]
            elif path and not info.ischr() and not info.isblk():
                found[path] = _entry(tar, info)
    return found


def _entry(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Entry:
    kind = _KINDS.get(info.type, "file")
    holds = info.linkname if kind == "link" else ""
    if kind == "file":
        content = tar.extractfile(info)
        holds = hashlib.file_digest(content, "sha256").hexdigest() if content else ""  # type: ignore[arg-type]
    return Entry(kind=kind, mode=0 if kind == "link" else info.mode & 0o7777, owner=(info.uid, info.gid), holds=holds)


def differences(ours: dict[str, Entry], theirs: dict[str, Entry]) -> Iterator[tuple[str, str]]:
    """Yield the paths that differ, each with its difference."""
    for path in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None:
            yield path, "missing" if other is None else "added"
        elif one != other:
            parts = [name for name in Entry.__slots__ if getattr(one, name) != getattr(other, name)]
            yield path, f"other {', '.join(parts)}"
