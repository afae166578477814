"""Listings: what a layer holds at each path, read while it is packed or from its blob.

Folders are not owned, because any number of layers may have them; the listing of a root has its empty folders, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Protocol

from buildkit.errors import BuildError
from buildkit.layers.tar.contents import EXECUTABLE, FOLDER, NAMESPACE, SPECIAL, Listing, link_content
from buildkit.layers.tar.member import Member
from buildkit.layers.tar.namespace import MAX_SIZE, find_module, only_declares_namespace
from buildkit.layers.tar.reader import TarReader


class ContentDescriber:
    """Describes the content of a file at ``path`` for a listing, from its bytes as they pass."""

    __slots__ = ("_executable", "_hasher", "_path", "_start")

    def __init__(self, path: str, *, executable: bool) -> None:
        self._path = path
        self._executable = executable
        self._hasher = hashlib.sha256()
        self._start = b""

    def update(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._hasher.update(chunk)
        if len(self._start) <= MAX_SIZE:
            self._start += chunk[: MAX_SIZE + 1]

    @property
    def sha256(self) -> str:
        """The hash of the bytes so far, in hexadecimal digits."""
        return self._hasher.hexdigest()

    def content(self, find: Callable[[str], str]) -> str:
        """Return the content of the whole file; ``find`` returns that of another path of the layer so far, or ""."""
        if len(self._start) <= MAX_SIZE and only_declares_namespace(self._path, self._start):
            return NAMESPACE
        if find(find_module(self._path)) == NAMESPACE:
            return NAMESPACE  # its bytecode
        return f"{self.sha256}{EXECUTABLE}" if self._executable else self.sha256


def describe_member(member: Member) -> str:
    """Return the content of one file for a listing; it is read, for only its bytes show a namespace package."""
    described = ContentDescriber(member.path, executable=member.executable)
    for chunk in member.content() if member.content else ():
        described.update(chunk)
    return described.content(lambda _path: "")


def root_listing(contents: dict[str, str], folders: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the listing of a root, sorted: ``contents`` by path, and those of ``folders`` that hold nothing."""
    parents = {path.rpartition("/")[0] for path in (*contents, *folders)}
    empty = {path: FOLDER for path in folders if path not in parents}
    return tuple(sorted({**empty, **contents}.items()))


class TarObserver(Protocol):
    """Sees the members of a tar while something else reads it (`native.collector.NativeCollector`)."""

    def see_file(self, path: str, size: int, chunks: Iterable[bytes]) -> Iterable[bytes]:
        """See a regular file; the result are its chunks, all of which must be read."""

    def add_link(self, path: str, target: str) -> None:
        """See a symbolic link."""

    def add_hard_link(self, path: str, target: str) -> None:
        """See a hard link."""

    def see_other(self, path: str) -> None:
        """See a folder, a device or a pipe."""


class _NoObserver:
    def see_file(self, path: str, size: int, chunks: Iterable[bytes]) -> Iterable[bytes]:
        del path, size
        return chunks

    def add_link(self, path: str, target: str) -> None:
        """Do nothing."""

    def add_hard_link(self, path: str, target: str) -> None:
        """Do nothing."""

    def see_other(self, path: str) -> None:
        """Do nothing."""


def read_listing(
    tar: Iterable[bytes], name: str, *, of_root: bool = False, observer: TarObserver | None = None
) -> Listing:
    """Return the listing of a layer's tar, sorted, as packing makes it; ``name`` is for messages.

    Raises BuildError for a damaged tar.
    """
    found: dict[str, str] = {}
    folders: set[str] = set()
    seen = observer or _NoObserver()
    try:
        reader = TarReader(tar, f"the layer {name}")
        for member in reader:
            kind, path = member.fields["type"], member.path.decode("utf-8", "replace")
            if kind == "symbolic link":
                found[path] = link_content(member.fields["link"])
                seen.add_link(path, member.fields["link"])
            elif kind == "hard link":
                target = member.fields["link"].strip("/")
                found[path] = found.get(target, SPECIAL)
                seen.add_hard_link(path, target)
            elif kind in ("file", "sparse file"):
                described = ContentDescriber(path, executable=bool(int(member.fields["mode"], 8) & 0o100))
                for chunk in seen.see_file(path, member.size, reader.content()):
                    described.update(chunk)
                found[path] = described.content(lambda other: found.get(other, ""))
            else:
                seen.see_other(path)
                if kind == "folder":
                    folders.add(path)
                else:
                    found[path] = SPECIAL
    except ValueError as error:
        raise BuildError(f"the layer {name} cannot be read: {error}") from error
    return list(root_listing(found, folders - {""} if of_root else ()))
