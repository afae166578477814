"""The version of the rules that a verdict was reached by: the scanner's sources, and the names that a user allows.

A number to be raised by hand would be forgotten once, and then verdicts of an older, weaker scanner would be trusted.
An edit that finds nothing new costs one more scan of each file, which is the cheaper mistake.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cache


def rules_version(allowed: Iterable[str] = ()) -> str:
    """Return sixteen hexadecimal digits that change whenever another scan could find something else."""
    digest = hashlib.sha256(_sources().encode())
    for name in sorted(allowed):
        digest.update(b"\0" + name.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


@cache
def _sources() -> str:
    return digest_of(os.path.dirname(__file__))  # noqa: PTH120


def digest_of(folder: str) -> str:
    """Return the SHA-256 of the names and contents of a package's sources and data."""
    digest = hashlib.sha256()
    for path in sorted(_files(folder)):
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - runs in every build, over a hundred files
            data = file.read()
        digest.update(f"{path[len(folder) :]}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def _files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name != "__pycache__":
                    yield from _files(entry.path)
            else:
                yield entry.path
