"""Collect the native facts of a layer while its members are streamed; native files are recognised by their bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from buildkit.layers.tar.whiteout import find_removed_path
from buildkit.native.elf import MAGIC, Elf, ElfError
from buildkit.native.elf_stream import FRONT, MOST, ElfStream
from buildkit.native.facts import NativeFacts, is_text

_SMALLEST = 52  # bytes of an ELF header of 32 bits
_TEXT = 1 << 16  # bytes kept of a text
_NEVER = (".py", ".pyc", ".pyi", ".h", ".txt", ".json")  # never native: not inspected while a layer is packed
_NO_LIBRARIES = re.compile(r"(?:usr/share|etc/ssl|usr/lib/ssl|proc|sys|dev|usr/src|var/(?!lib/)|var/lib/dpkg)/")
_FILES = 200_000  # native files of a layer
Reopen = Callable[[], Iterable[bytes]]


class NativeCollector:
    """Collects the native facts of one layer from its members, in any order; every thread needs its own.

    Damage raises nothing: a file that cannot be read is listed in ``NativeFacts.unread``. Errors of ``chunks`` pass.
    """

    def __init__(self) -> None:
        self._files: dict[str, Elf] = {}
        self._links: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._unread: dict[str, str] = {}
        self._gone: list[str] = []

    def add_file(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        """Add a regular file; ``chunks`` are read to the end only for a native file or a text that is kept."""
        if gone := find_removed_path(path):
            self._gone.append(gone)
        elif is_text(path) or size >= _SMALLEST:
            for _ in self._tee(path, chunks, whole=False):
                pass

    def see_file(self, path: str, size: int, chunks: Iterable[bytes]) -> Iterable[bytes]:
        """Add a regular file while another consumer reads it, who must read all of the chunks that are returned."""
        if gone := find_removed_path(path):
            self._gone.append(gone)
        elif is_text(path) or size >= _SMALLEST:
            return self._tee(path, chunks, whole=True)
        return chunks

    def see_other(self, path: str) -> None:
        """Add a folder, a device or a pipe: a whiteout may be of any kind."""
        if path:
            self.add_file(path, 0, ())

    def is_relevant(self, path: str, size: int) -> bool:
        """Tell by name and size in bytes alone whether a file may be of interest."""
        return is_text(path) or (size >= _SMALLEST and not path.endswith(_NEVER))

    def tee_file(self, path: str, chunks: Iterable[bytes], again: Reopen | None = None) -> Iterator[bytes]:
        """Add a regular file while another consumer reads it: yield the same chunks, all of which must be read.

        ``again`` gives its chunks once more, so that less of a large native file is kept in memory.
        """
        return self._tee(path, chunks, whole=True, again=again)

    def add_link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        if not _NO_LIBRARIES.match(path):
            self._links[path] = target

    def add_hard_link(self, path: str, target: str) -> None:
        """Add a hard link to a file that was added before (``target`` is its path)."""
        self.add_link(path, f"/{target}")

    def facts(self) -> NativeFacts:
        """Return what was collected."""
        return NativeFacts(
            files=dict(sorted(self._files.items())),
            links=dict(sorted(self._links.items())),
            texts=dict(sorted(self._texts.items())),
            unread=dict(sorted(self._unread.items())),
            gone=tuple(sorted(self._gone)),
        )

    def _tee(self, path: str, chunks: Iterable[bytes], *, whole: bool, again: Reopen | None = None) -> Iterator[bytes]:
        rest, start = iter(chunks), b""
        for chunk in rest:
            start += chunk
            yield chunk
            if len(start) >= len(MAGIC):
                break
        if is_text(path):
            yield from self._keep_text(path, start, rest)
        elif start.startswith(MAGIC) and len(self._files) < _FILES:
            yield from self._parse_elf(path, start, rest, again)
        elif whole:
            yield from rest

    def _keep_text(self, path: str, start: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
        text = start
        for chunk in rest:
            text += chunk[: max(0, _TEXT - len(text))]
            yield chunk
        self._texts[path] = "" if path.endswith(".cache") else text[:_TEXT].decode("utf-8", "replace")

    def _parse_elf(self, path: str, start: bytes, rest: Iterator[bytes], again: Reopen | None) -> Iterator[bytes]:
        stream = ElfStream(FRONT, 2 * MOST) if again else ElfStream()
        stream.add(start)
        for chunk in rest:
            stream.add(chunk)
            yield chunk
        if again and stream.lacks:
            stream.add_again(again())
        elif again and stream.is_lost:
            stream = ElfStream()
            for chunk in again():
                stream.add(chunk)
        try:
            self._files[path] = stream.finish()
        except ElfError as error:
            self._unread[path] = str(error)
