"""One file that is two things: what a reader of one format ignores, a reader of another may load."""

from __future__ import annotations

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.source import RangeSource, ScanSource

TRAILING = Rule(
    id="trailing-bytes",
    title="Bytes behind the end",
    severity=Severity.MEDIUM,
    why="The format's reader ignores them; another reader, or a program that looks for them, does not.",
    advice="Get the file from its maker again, or write it anew with the format's own library.",
)
ZIP = Rule(
    id="zip-polyglot",
    title="Also a zip archive",
    severity=Severity.HIGH,
    why="torch.load, zipimport and others find an archive by its end, and load another thing than the file shows.",
    advice="Do not load the file; write it anew with the format's own library.",
)
_ENDING = b"PK\x05\x06"


def check_trailing(context: ScanContext, source: ScanSource, end: int, *, padding: int = 0) -> None:
    """Say what lies behind ``end``, and scan it; up to ``padding`` zero bytes are fine."""
    rest = source.size - end
    if rest <= 0:
        return
    head = source.read(end, min(rest, 4096))
    if rest <= padding and not head.strip(b"\0"):
        return
    context.find(TRAILING, f"{rest} bytes follow where it ends", offset=end)
    context.descend("bytes behind the end", RangeSource(source, end, rest))


def check_zip(context: ScanContext, source: ScanSource) -> None:
    """Say whether a file of another format ends as a zip archive does."""
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
