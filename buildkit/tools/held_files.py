"""Read small files of the kernel again and again. Opening one takes six times as long as reading it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable

_CHUNK = 1 << 16
_WHOLE = 1 << 11  # the kernel gives a page or its records before: fewer bytes are the last ones
_MOST = 4096


class HeldFiles:
    """Files of control groups, of which at most ``most`` stay open (default: half of what this process may open).

    A held file of a group that is gone cannot be read (ENODEV), and holds nothing of the group. This is not so for
    files on disks and for those of processes: an open ``/proc/PID/net/dev`` would keep a network alive.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2) if most is None else most
        self._open: dict[str, int] = {}

    def read(self, path: str) -> str:
        """Return a file's text; empty if it has gone, or a kernel without the feature refuses to be read."""
        if (file := self._open.get(path)) is not None:
            try:
                return _read(file)
            except OSError:  # its group has gone; there may be a new one of the same name
                os.close(self._open.pop(path))
        return self._read_anew(path)

    def keep(self, paths: Iterable[str]) -> None:
        """Close all other files."""
        kept = frozenset(paths)
        for path in [path for path in self._open if path not in kept]:
            os.close(self._open.pop(path))

    def _read_anew(self, path: str) -> str:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        held = len(self._open) < self._most
        try:
            text = _read(file)
        except OSError:
            text, held = "", False
        if held:
            self._open[path] = file
        else:
            os.close(file)
        return text


def read_once(path: str) -> str:
    """Return a file's text, as `HeldFiles` does, and close it."""
    return _NOTHING_HELD.read(path)


_NOTHING_HELD = HeldFiles(0)


def _read(file: int) -> str:
    text = part = os.pread(file, _CHUNK, 0)
    while len(part) > _WHOLE:
        part = os.pread(file, _CHUNK, len(text))
        text += part
    return text.decode("utf-8", "replace")
