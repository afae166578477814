"""Tars as they are written, header by header: every byte belongs to a member's header, its content, or the end.

Unlike ``tarfile`` this reader keeps what a header says and how it says it, so two tars that differ in one byte differ
in something that it names. It knows POSIX's ustar and pax headers, and GNU's long names and sparse files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from buildkit.errors import BuildError
from buildkit.layers.tar.header import BLOCK
from buildkit.lazy_dataclass import dataclass

_CHUNK = 1 << 20
_DIGITS = 20  # of a size: more than any disk needs
_MOST = 16 << 20  # bytes of an extended header: a hostile one must not fill the memory
_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK, _SPARSE = b"x", b"g", b"L", b"K", b"S"
_EMPTY = frozenset((b"", b"."))  # parts of a path that lead nowhere
_REMEMBERED = 1024  # fields: the headers of a tar have the same modes, owners and times
_NO_CONTENT = b"123456"  # links, devices, folders and pipes have no content, even if their size field is not 0
_KINDS = {
    b"0": "file", b"\0": "file", b"7": "file", b"1": "hard link", b"2": "symbolic link", b"3": "character device",
    b"4": "block device", b"5": "folder", b"6": "pipe", b"S": "sparse file",
}  # fmt: skip
HEADER = {
    "name": slice(0, 100), "mode": slice(100, 108), "uid": slice(108, 116), "gid": slice(116, 124),
    "size": slice(124, 136), "mtime": slice(136, 148), "type": slice(156, 157), "link": slice(157, 257),
    "magic": slice(257, 265), "uname": slice(265, 297), "gname": slice(297, 329), "devmajor": slice(329, 337),
    "devminor": slice(337, 345), "prefix": slice(345, 500), "rest": slice(500, 512), "checksum": slice(148, 156),
}  # fmt: skip
"""The positions of the fields in a header block; the checksum comes last, as it follows from the others."""

_RECORDS = ("path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class TarHeader:
    """A member's header: ``path`` without a slash at either end, ``fields`` as text by name, ``raw`` all its blocks.

    ``fields`` has ``name`` (the path as written), ``type``, ``mode`` (octal), ``uid``, ``gid``, ``uname``,
    ``gname``, ``size`` in bytes, ``mtime`` in seconds, ``link``, ``device``, and ``pax KEY`` for every other record of
    an extended header.
    """

    path: bytes
    fields: dict[str, str]
    size: int
    raw: bytes

    @property
    def format(self) -> str:
        """The encoding of the header, for people: ``ustar``, ``GNU with long name`` …"""
        last = self.raw[-BLOCK:]
        magic = {b"ustar\x0000": "ustar", b"ustar  \0": "GNU"}.get(last[HEADER["magic"]], "old")
        extensions = {_EXTENDED: "pax records", _GLOBAL: "global pax records", _LONG_NAME: "long name"}
        first = extensions.get(self.raw[HEADER["type"]], "") if len(self.raw) > BLOCK else ""
        return f"{magic} with {first}" if first else magic


class TarReader:
    """Reads the members of a tar in ``chunks``, in order. Iterate once; memory is a few mebibytes.

    Raises BuildError, which names the tar as ``what``, if it is damaged.
    """

    def __init__(self, chunks: Iterable[bytes], what: str) -> None:
        self._chunks = iter(chunks)
        self._what = what
        self._buffer = b""
        self._at = 0
        self._left = 0  # unread content of the current member
        self._size = 0
        self._globals: dict[str, bytes] = {}
        self.end = ""  # a description of what follows the last member

    def __iter__(self) -> Iterator[TarHeader]:
        while (header := self._next()) is not None:
            yield header

    def content(self) -> Iterator[bytes]:
        """Yield the unread content of the current member in chunks of at most a mebibyte."""
        while self._left:
            chunk = self._exactly(min(self._left, _CHUNK))
            self._left -= len(chunk)
            yield chunk

    def padding(self) -> bytes:
        """Return the bytes, usually zeros, that fill the current content up to whole blocks. Call once, after it."""
        for _ in self.content():
            pass
        size, self._size = self._size, 0
        return self._exactly(-size % BLOCK)

    def _next(self) -> TarHeader | None:
        self.padding()
        raw = bytearray()
        records = dict(self._globals)
        while True:
            block = self._exactly(BLOCK)
            if not raw and not any(block):
                self._read_end(block)
                return None
            self._check(block)
            raw += block
            kind = block[HEADER["type"]]
            if kind not in (_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK):
                break
            size = self._content_size(block, {})
            if size > _MOST:
                raise self._damaged(f"an extended header of {size} bytes")
            data = self._exactly(size + -size % BLOCK)
            raw += data
            self._extend(kind, data[:size], records)
        sparse = kind == _SPARSE and block[482]
        while sparse:
            more = self._exactly(BLOCK)
            raw += more
            sparse = more[504]
        return self._header(block, records, bytes(raw))

    def _extend(self, kind: bytes, data: bytes, records: dict[str, bytes]) -> None:
        if kind in (_LONG_NAME, _LONG_LINK):
            records["path" if kind == _LONG_NAME else "linkpath"] = data.rstrip(b"\0")
            return
        found = self._parse_records(data)
        records |= found
        if kind == _GLOBAL:
            self._globals |= found

    def _parse_records(self, data: bytes) -> dict[str, bytes]:
        records: dict[str, bytes] = {}
        at = 0
        while at < len(data):
            length, blank, _ = data[at : at + 20].partition(b" ")
            end = at + int(length) if length.isdigit() and blank else 0
            key, equals, value = data[at + len(length) + 1 : end - 1].partition(b"=")
            if end <= at or end > len(data) or not equals:
                raise self._damaged("a pax record is malformed")
            records[format_raw_text(key)] = value
            at = end
        return records

    def _header(self, block: bytes, records: dict[str, bytes], raw: bytes) -> TarHeader:
        kind = block[HEADER["type"]]
        prefix = _text(block[HEADER["prefix"]]) if block[HEADER["magic"]].startswith(b"ustar\0") else b""
        name = records.get("path") or b"/".join(filter(None, (prefix, _text(block[HEADER["name"]]))))
        size = self._content_size(block, records)
        self._size = self._left = 0 if kind in _NO_CONTENT else size
        fields = {
            "name": format_raw_text(name),
            "type": _KINDS.get(kind, repr(kind)),
            "mode": f"{self._number(block[HEADER['mode']]):04o}",
            "size": str(size),
            "device": f"{self._number(block[HEADER['devmajor']])}:{self._number(block[HEADER['devminor']])}",
            "link": format_raw_text(records.get("linkpath") or _text(block[HEADER["link"]])),
        }
        for key in ("uid", "gid", "mtime"):
            fields[key] = format_raw_text(records[key]) if key in records else str(self._number(block[HEADER[key]]))
        for key in ("uname", "gname"):
            named = records.get(key)
            fields[key] = format_raw_text(named) if named else _format_name(block[HEADER[key]])
        if records:
            fields |= {f"pax {key}": format_raw_text(value) for key, value in records.items() if key not in _RECORDS}
        parts = name.split(b"/")
        path = b"/".join(part for part in parts if part not in _EMPTY) if not _EMPTY.isdisjoint(parts) else name
        return TarHeader(path=path, fields=fields, size=self._size, raw=raw)

    def _check(self, block: bytes) -> None:
        if self._number(block[HEADER["checksum"]]) != sum(block[:148]) + sum(block[156:]) + 8 * 32:
            raise self._damaged("a header's checksum is wrong")

    def _content_size(self, block: bytes, records: Mapping[str, bytes]) -> int:
        record = records.get("size", b"")
        if len(record) > _DIGITS:
            raise self._damaged("a size is too long")
        size = int(record) if record.isdigit() else self._number(block[HEADER["size"]])
        if size < 0:
            raise self._damaged("a size is negative")
        return size

    def _number(self, field: bytes) -> int:
        """Return the number of a header's field; times may be negative, in base 256."""
        try:
            return _parse_number(field)
        except ValueError as error:
            raise self._damaged(str(error)) from None

    def _read_end(self, block: bytes) -> None:
        found, size, zeros = hashlib.sha256(block), len(block), True
        while chunk := self._up_to(_CHUNK):
            found.update(chunk)
            size += len(chunk)
            zeros = zeros and not any(chunk)
        self.end = f"{size} zero bytes" if zeros else f"{size} bytes, not all zero, of SHA-256 {found.hexdigest()}"

    def _exactly(self, size: int) -> bytes:
        data = self._up_to(size)
        if len(data) < size:
            raise self._damaged("it ends before its end marker")
        return data

    def _up_to(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end."""
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        while len(data) < size and (chunk := next(self._chunks, None)) is not None:
            self._buffer, self._at = chunk, min(size - len(data), len(chunk))
            data += chunk[: self._at]
        return data

    def _damaged(self, why: str) -> BuildError:
        return BuildError(f"{self._what} is damaged: {why}")


@lru_cache(_REMEMBERED)
def _parse_number(field: bytes) -> int:
    """Return the number of a header's field. Raises ValueError for another text than octal digits."""
    if field[:1] in (b"\x80", b"\xff"):  # GNU's base 256, for numbers too large for octal digits
        return int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else int.from_bytes(field[1:], "big")
    digits = field.split(b"\0")[0].strip()
    if digits.strip(b"01234567"):  # int() would take a sign and underscores, too
        raise ValueError(f"{digits!r} is not an octal number")
    return int(digits or b"0", 8)


@lru_cache(_REMEMBERED)
def _format_name(field: bytes) -> str:
    """Return the name of a user or a group, of which a tar has few."""
    return format_raw_text(_text(field))


def format_raw_text(data: bytes) -> str:
    """Decode bytes for people; different bytes give different text, except for bytes that spell an escape."""
    return data.decode("utf-8", "backslashreplace")


def _text(field: bytes) -> bytes:
    return field.split(b"\0")[0]
