"""The wanted files of a chain of layers, read from their tars: the lowest first, with the whiteouts of OCI images."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping

from buildkit.layers.tar.reader import TarReader
from buildkit.layers.tar.whiteout import find_removed_path

_LARGEST = 32 << 20  # bytes of one file: dpkg's status of the largest systems has less than ten million
_MOST = 256 << 20  # bytes of all files


class LayeredFiles:
    """The files whose paths, relative to the root, are ``wanted``; nothing is unpacked to disk."""

    def __init__(self, wanted: Callable[[str], object]) -> None:
        self.files: dict[str, bytes] = {}
        self._wanted = wanted
        self._links: dict[str, str] = {}

    def add(self, chunks: Iterable[bytes], what: str) -> Mapping[str, bytes]:
        """Apply the tar of the next layer, and return the files that it has.

        Raises BuildError, which names the layer as ``what``, if it is damaged.
        """
        reader = TarReader(chunks, what)
        hidden: list[str] = []
        added: dict[str, bytes] = {}
        links: dict[str, str] = {}
        for member in reader:
            path = member.path.decode("utf-8", "replace")
            if removed := find_removed_path(path):
                hidden.append(removed)
            elif self._wanted(path):
                kind = member.fields["type"]
                if kind in ("symbolic link", "hard link"):
                    target = member.fields["link"]
                    links[path] = target if kind == "hard link" else _follow(posixpath.dirname(path), target)
                elif kind == "file" and member.size <= _LARGEST:
                    added[path] = b"".join(reader.content())
        self._apply(hidden, added, links)
        return added

    def _apply(self, hidden: list[str], added: dict[str, bytes], links: dict[str, str]) -> None:
        for path in [path for path in (*self.files, *self._links) if _is_hidden(path, hidden)]:
            self.files.pop(path, None)
            self._links.pop(path, None)
        for path in links:
            self.files.pop(path, None)
        for path in added:
            self._links.pop(path, None)
        self._links |= links
        self.files |= added
        while sum(map(len, self.files.values())) > _MOST:
            self.files.popitem()  # no real system has as much: the layer is hostile, and its last files are dropped

    def read(self, path: str) -> bytes | None:
        """Return a file, also one behind a link; None if there is none."""
        return self.files.get(self.resolve(path))

    def read_all(self) -> dict[str, bytes]:
        """Return every file, also those behind links, by path."""
        behind = {path: data for path in self._links if (data := self.read(path)) is not None}
        return {**self.files, **behind}

    def resolve(self, path: str) -> str:
        """Return the path that a link leads to."""
        for _ in range(8):
            if path not in self._links:
                return path
            path = self._links[path]
        return path


def _is_hidden(path: str, hidden: list[str]) -> bool:
    return any(
        removed in (path, "/") or path.startswith(removed if removed.endswith("/") else f"{removed}/")
        for removed in hidden
    )


def _follow(folder: str, target: str) -> str:
    """Return the path, relative to the root, that a symbolic link in ``folder`` leads to."""
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
