"""Which rules a verdict was reached by: the scanner's own sources, and the names that a user allows beyond them.

A number that somebody must remember to raise would be forgotten once, and then old verdicts of a worse scanner would
be believed. Sources that change without finding anything else cost one more scan of each file: the cheaper mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def rules_version(allowed: Iterable[str] = ()) -> str:
    """Sixteen hexadecimal digits; other ones where another scan could find something else."""
    digest = hashlib.sha256(_sources().encode())
    for name in sorted(allowed):
        digest.update(b"\0" + name.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


@cache
def _sources() -> str:
    return digest_of(Path(__file__).parent)


def digest_of(folder: Path) -> str:
    """The SHA-256 of the names and contents of a package's sources and data."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts or not path.is_file():
            continue
        data = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()
