"""7z archives: recognised, but not read.

Models in 7z are rare, and reading them would take a parser of our own for hostile headers. So a 7z archive is a gap: a
file that is one, or holds one, is never clean.
"""

from __future__ import annotations

from buildkit.scan.context import ScanContext
from buildkit.scan.source import ScanSource

MAGIC = b"7z\xbc\xaf\x27\x1c"


def recognise(head: bytes, source: ScanSource) -> bool:
    """Return whether content begins as a 7z archive."""
    del source
    return head.startswith(MAGIC)


def scan(context: ScanContext, source: ScanSource) -> None:
    """Report that the archive was not scanned."""
    del source
    context.gap("a 7z archive, which this scanner does not read; unpack it and scan its files")
