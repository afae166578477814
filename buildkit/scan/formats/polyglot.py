"""Polyglots: what a reader of one format ignores, a reader of another may load."""

from __future__ import annotations

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.source import RangeSource, ScanSource

TRAILING = Rule(
    id="trailing-bytes",
    title="Bytes after the end",
    severity=Severity.MEDIUM,
    why="Readers of the format ignore them; another reader, or a program that looks for them, does not.",
    advice="Get the file from its author again, or write it again with the format's own library.",
)
ZIP = Rule(
    id="zip-polyglot",
    title="Also a zip archive",
    severity=Severity.HIGH,
    why="torch.load, zipimport and others find an archive by its end, and load something else than the file shows.",
    advice="Do not load the file; write it again with the format's own library.",
)
_ENDING = b"PK\x05\x06"


def check_trailing(context: ScanContext, source: ScanSource, end: int, *, padding: int = 0) -> None:
    """Report and scan what follows ``end``; up to ``padding`` zero bytes are accepted."""
    rest = source.size - end
    if rest <= 0:
        return
    head = source.read(end, min(rest, 4096))
    if rest <= padding and not head.strip(b"\0"):
        return
    context.find(TRAILING, f"{rest} bytes follow where it ends", offset=end)
    context.descend("bytes after the end", RangeSource(source, end, rest))


def check_zip(context: ScanContext, source: ScanSource) -> None:
    """Report a file of another format that ends as a zip archive."""
    start = max(0, source.size - 22 - 65535)
    tail = source.read(start, source.size - start)
    at = tail.rfind(_ENDING)
    while at >= 0:
        record = tail[at : at + 22]
        if len(record) == 22 and at + 22 + int.from_bytes(record[20:22], "little") == len(tail):
            size = int.from_bytes(record[12:16], "little")
            if size <= start + at or size == 0xFFFFFFFF:
                context.find(ZIP, "it ends with the directory of a zip archive", offset=start + at)
                return
        at = tail.rfind(_ENDING, 0, at)
