"""What a table of contents says of a tar's members, and the tar-split data that goes with it.

Both are what containers/storage reads out of the tar's headers: it compares them (pkg/chunked/compression_linux.go,
``ensureTOCMatchesTarSplit``), and refuses a layer in which they differ.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import posixpath
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from buildkit.layers.tar.header import BLOCK
from buildkit.layers.tar.parser import FILE, LayerMember

if TYPE_CHECKING:
    from zstandard import ZstdCompressionObj

_KINDS = {
    b"0": "reg", b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block", b"5": "dir", b"6": "fifo",
}  # fmt: skip
_LINES = 1000  # of tar-split data, that are compressed at once
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEGMENT, _NAME = 2, 1  # types of tar-split's entries


class StoredContent(NamedTuple):
    """The content of a file: where its frame begins and ends in the blob, and its hashes."""

    offset: int
    end: int
    sha256: str
    crc: int


class TocWriter:
    """The entries so far, and tar-split data (vbatts/tar-split, tar/storage), which ``lines`` compresses.

    Every member has a segment with the padding before it and its headers, and an entry of its name.
    """

    def __init__(self, lines: ZstdCompressionObj) -> None:
        self._lines = lines
        self._packed: list[bytes] = []
        self._waiting: list[bytes] = []
        self._size = 0  # of the lines
        self._position = 0
        self._segment = bytearray()
        self._padding = 0
        self._seen: set[str] = set()
        self._entry: dict[str, Any] = {}
        self._entries: list[dict[str, Any]] = []

    def raw(self, data: memoryview | bytes) -> None:
        """Take bytes that are no content."""
        self._segment += data

    def start(self, member: LayerMember) -> bool:
        """Begin an entry; return false if the table cannot describe it."""
        headers = bytes(self._segment[self._padding :])
        entry = _describe(member, headers)
        if entry is None or (name := posixpath.normpath(entry["name"])) in self._seen:
            return False
        self._seen.add(name)
        self._entry = entry
        self._end_segment()
        return True

    def end(self, content: StoredContent | None) -> None:
        """End the entry."""
        entry, payload = self._entry, None
        if content is not None:
            payload = binascii.b2a_base64(content.crc.to_bytes(8, "big"), newline=False).decode()
            entry |= {"digest": f"sha256:{content.sha256}", "offset": content.offset, "endOffset": content.end}
        size = entry.get("size", 0)
        self._padding = -size % BLOCK
        self._entries.append(entry)
        self._line({"type": _NAME, "name": entry["name"], "size": size, "payload": payload})

    def close(self) -> tuple[bytes, int]:
        """Return the compressed tar-split data, and how many bytes these were."""
        self._end_segment()
        self._pack()
        self._packed.append(self._lines.flush())
        return b"".join(self._packed), self._size

    def render(self, tar_split: bytes) -> bytes:
        """Return the table, which names the compressed tar-split data."""
        digest = f"sha256:{hashlib.sha256(tar_split).hexdigest()}"
        table = {"version": 1, "entries": self._entries, "tarSplitDigest": digest}
        return json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()

    def _end_segment(self) -> None:
        if self._segment:
            self._line({"type": _SEGMENT, "payload": binascii.b2a_base64(self._segment, newline=False).decode()})
            self._segment = bytearray()

    def _line(self, value: dict[str, Any]) -> None:
        value["position"] = self._position
        self._position += 1
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._waiting.append(line)
        self._size += len(line)
        if len(self._waiting) >= _LINES:
            self._pack()

    def _pack(self) -> None:
        self._packed.append(self._lines.compress(b"".join(self._waiting)))
        self._waiting = []


def _describe(member: LayerMember, headers: bytes) -> dict[str, Any] | None:
    """Return the facts of an entry as Go's archive/tar reads them from ``headers``; None if they may differ."""
    if member.sparse is not None or not _is_plain(member, headers[:-BLOCK], headers[-BLOCK:]):
        return None
    try:
        entry: dict[str, Any] = {
            "type": _KINDS[member.kind],
            "name": member.path.decode(),
            "linkName": member.link.decode(),
            "mode": member.mode,
            "size": member.size,
            "uid": member.uid,
            "gid": member.gid,
            "modtime": _format_time(member.mtime),
            "devMajor": member.device[0],
            "devMinor": member.device[1],
            "xattrs": {name.decode(): base64.b64encode(value).decode() for name, value in member.xattrs.items()},
        }
    except (UnicodeDecodeError, OverflowError):
        return None
    return {key: value for key, value in entry.items() if value}


def _is_plain(member: LayerMember, extended: bytes, header: bytes) -> bool:
    """Return whether Go's reader finds nothing else in the headers: no other kind, mode, size, device or time."""
    mode = header[100:108].strip(b"\0 ") or b"0"
    zeros = header[124:136] if member.kind != FILE else b""
    zeros += header[329:345] if member.kind not in b"34" else b""
    gnu_times = header[257:263] != b"ustar\0" and (header[345] or header[357])
    return (
        header[156:157] in (b"0\0" if member.kind == FILE else b"123456")
        and mode.isdigit()
        and int(mode, 8) == member.mode
        and not zeros.strip(b"0\0 ")
        and not gnu_times
        and not any(key in extended for key in (b" atime=", b" ctime="))
        and extended[156:157] != b"g"  # a member of its own
    )


def _format_time(nanoseconds: int) -> str:
    """Return a time by RFC 3339."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else f"{text}Z"
