"""Hashes of pins that a resolver writes without: uv hashes no file of a page of links whose metadata it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from buildkit.digest import FileHash

_BARE_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)(?: ; [^\\\n]*)?$", re.MULTILINE)


def complete_hashes(text: str, find: Callable[[str, str], Sequence[FileHash]]) -> str:
    """Return a lock's text with ``find(name, version)`` as the hashes of each pin that has none."""

    def complete(line: re.Match[str]) -> str:
        return line[0] + "".join(f" \\\n    --hash={value}" for value in find(line[1], line[2]))

    return _BARE_PIN.sub(complete, text)
