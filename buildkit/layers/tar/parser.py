"""A tar that is taken apart while it comes: members, their contents, and the bytes in between.

`layers.tar.reader` pulls and compares; this one is pushed, and tells its handler of every byte once, in order. It
knows POSIX's ustar and pax headers, and GNU's long names, base-256 numbers and sparse files. What it accepts, it reads
as Go's archive/tar does, so that containers-storage finds the same members. The tar is distrusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from buildkit.errors import BuildError
from buildkit.layers.tar.header import BLOCK
from buildkit.layers.tar.sparse import SparseMap, parse_old_sparse_map, parse_pax_sparse_map

FILE, HARD_LINK, SYMLINK, CHARACTER_DEVICE, BLOCK_DEVICE, FOLDER, PIPE = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
XATTR = b"SCHILY.xattr."
_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK, _SPARSE = b"x", b"g", b"L", b"K", b"S"
_HEADERS = frozenset((_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK))
_FILES = frozenset((FILE, b"\0", b"7", _SPARSE))
_KINDS = frozenset((HARD_LINK, SYMLINK, CHARACTER_DEVICE, BLOCK_DEVICE, FOLDER, PIPE))
_MOST = 16 << 20  # bytes of the headers of one member: a hostile tar must not fill the memory
_ZEROS = bytes(BLOCK)
_NO_OWNER = (1 << 32) - 1  # chown(2) takes it as no change
_NANOSECONDS = 1_000_000_000
_NUMBER_DIGITS = 20
_UID, _GID, _SIZE = slice(108, 116), slice(116, 124), slice(124, 136)


class LayerMember(NamedTuple):
    """A member: its path as written, its kind (``FILE``, ``FOLDER`` …), and the facts of its headers.

    ``mtime`` is in nanoseconds, ``device`` its major and minor number, ``size`` the bytes of stored content. A sparse
    file has a map of where these belong.
    """

    path: bytes
    kind: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = MappingProxyType({})
    sparse: SparseMap | None = None


class TarHandler(Protocol):
    """Takes what `TarParser` finds."""

    def start(self, member: LayerMember) -> None:
        """Take a member; its content follows."""

    def content(self, data: memoryview) -> None:
        """Take a piece of the member's content."""

    def end(self) -> None:
        """End the member."""

    def raw(self, data: memoryview | bytes) -> None:
        """Take bytes that are no content: headers, padding, the end."""


class TarParser:
    """Takes a tar in pieces of any size. Memory is a few mebibytes; ``what`` names the tar in messages."""

    def __init__(self, handler: TarHandler, what: str) -> None:
        self._handler = handler
        self._what = what
        self._pending = b""  # the beginning of a header
        self._left = 0  # content still to come
        self._padding = 0
        self._zeros = 0  # zero blocks seen; two end the tar
        self._inside = False

    def feed(self, block: bytes) -> None:
        """Take the next bytes. Raises BuildError or ValueError for a damaged tar; errors of the handler pass."""
        data = self._pending + block if self._pending else block
        self._pending = b""
        view, at, size = memoryview(data), 0, len(data)
        while at < size:
            if self._inside:
                taken = min(self._left, size - at)
                self._handler.content(view[at : at + taken])
                self._left -= taken
                at += taken
                self._end_if_complete()
            elif self._padding:
                taken = min(self._padding, size - at)
                self._handler.raw(view[at : at + taken])
                self._padding -= taken
                at += taken
            elif self._zeros > 1:
                self._handler.raw(view[at:])
                return
            else:
                taken = self._header(data, at)
                if not taken:
                    self._pending = data[at:]
                    return
                at += taken

    def take(self, headers: bytes, member: LayerMember) -> None:
        """Take the headers of a member, whose writer says what they mean. Raises as `feed` does."""
        if self._inside or self._padding or self._pending or self._zeros:
            raise self._damaged("a member begins where none can")
        self._begin(headers, member)

    def finish(self) -> None:
        """End the tar. Raises BuildError if it is cut."""
        if self._inside or self._padding or self._pending:
            raise self._damaged("it ends within a member")

    def _end_if_complete(self) -> None:
        if not self._left:
            self._inside = False
            self._handler.end()

    def _header(self, data: bytes, start: int) -> int:
        """Take the headers of a member; return their length, 0 if they are not complete."""
        at, records = start, dict[bytes, bytes]()
        while True:
            block = data[at : at + BLOCK]
            if len(block) < BLOCK:
                return self._incomplete(len(data) - start)
            if block == _ZEROS and at == start:
                self._zeros += 1
                self._handler.raw(block)
                return BLOCK
            self._check(block)
            kind = block[156:157]
            if kind not in _HEADERS:
                return self._take_member(data, start, at, records)
            content = at + BLOCK
            length = self._number(block[_SIZE])
            at = content + length + -length % BLOCK
            if at - start > _MOST:
                raise self._damaged(f"an extended header of {length} bytes")
            if len(data) < at:
                return self._incomplete(len(data) - start)
            self._extend(kind, data[content : content + length], records)
            if kind == _GLOBAL:  # a member of its own for Go, which ignores it
                self._handler.raw(memoryview(data)[start:at])
                return at - start

    def _take_member(self, data: bytes, start: int, at: int, records: Mapping[bytes, bytes]) -> int:
        blocks = [data[at : at + BLOCK]]
        at += BLOCK
        while blocks[0][156:157] == _SPARSE and blocks[-1][482 if len(blocks) == 1 else 504]:
            if len(data) - at < BLOCK:
                return self._incomplete(len(data) - start)
            blocks.append(data[at : at + BLOCK])
            at += BLOCK
        self._begin(memoryview(data)[start:at], self._member(blocks, records))
        return at - start

    def _begin(self, headers: memoryview | bytes, member: LayerMember) -> None:
        self._handler.raw(headers)
        self._handler.start(member)
        self._left = member.size
        self._padding = -member.size % BLOCK
        self._inside = True
        self._end_if_complete()

    def _incomplete(self, size: int) -> int:
        if size > _MOST + BLOCK:
            raise self._damaged("the headers of a member are too long")
        return 0

    def _extend(self, kind: bytes, data: bytes, records: dict[bytes, bytes]) -> None:
        if kind in (_LONG_NAME, _LONG_LINK):
            records[b"path" if kind == _LONG_NAME else b"linkpath"] = data.partition(b"\0")[0]
        elif kind == _EXTENDED:
            records |= self._parse_records(data)

    def _parse_records(self, data: bytes) -> dict[bytes, bytes]:
        records: dict[bytes, bytes] = {}
        sparse: list[bytes] = []
        at = 0
        while at < len(data):
            length, blank, _ = data[at : at + _NUMBER_DIGITS].partition(b" ")
            end = at + int(length) if length.isdigit() and blank else 0
            key, equals, value = data[at + len(length) + 1 : end - 1].partition(b"=")
            if end <= at or end > len(data) or not equals or data[end - 1 : end] != b"\n":
                raise self._damaged("a pax record is malformed")
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):  # repeated, in order
                sparse.append(value)
            records[key] = value
            at = end
        if sparse:
            records[b"GNU.sparse.map"] = b",".join(sparse)
        return records

    def _member(self, blocks: list[bytes], records: Mapping[bytes, bytes]) -> LayerMember:
        block = blocks[0]
        kind = block[156:157]
        path = block[:100].partition(b"\0")[0]
        if block[345] and block[257:263] == b"ustar\0":
            path = block[345:500].partition(b"\0")[0] + b"/" + path
        link = block[157:257].partition(b"\0")[0] if block[157] else b""
        size, uid, gid = (self._number(block[place]) for place in (_SIZE, _UID, _GID))
        mtime = self._number(block[136:148], signed=True) * _NANOSECONDS
        xattrs: dict[bytes, bytes] = {}
        sparse = None
        if records:
            path, link = records.get(b"path", path), records.get(b"linkpath", link)
            size, uid, gid = (
                self._record(records, key, value) for key, value in ((b"size", size), (b"uid", uid), (b"gid", gid))
            )
            mtime = self._time(records[b"mtime"]) if b"mtime" in records else mtime
            xattrs = {key[len(XATTR) :]: value for key, value in records.items() if key.startswith(XATTR)}
            sparse = parse_pax_sparse_map(records)
            path = records.get(b"GNU.sparse.name", path) if sparse else path
        if kind == _SPARSE:
            sparse = parse_old_sparse_map(blocks)
        if kind in _FILES:
            kind = FOLDER if path.endswith(b"/") and kind != _SPARSE else FILE
        elif kind not in _KINDS:
            raise self._damaged(f"{kind!r} is not a kind of member")
        if (owner := max(uid, gid)) >= _NO_OWNER:
            raise self._damaged(f"nothing can belong to the owner {owner}")
        return LayerMember(
            path, kind, self._number(block[100:108]) & 0o7777, uid, gid, mtime, size if kind == FILE else 0, link,
            (self._number(block[329:337]), self._number(block[337:345])) if kind in b"34" else (0, 0), xattrs, sparse,
        )  # fmt: skip

    def _check(self, block: bytes) -> None:
        if self._zeros:
            raise self._damaged("a member follows its end marker")
        # the field itself counts as blanks (POSIX.1-2001, pax, "ustar Interchange Format")
        if self._number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
            raise self._damaged("a header's checksum is wrong")

    def _record(self, records: Mapping[bytes, bytes], key: bytes, default: int) -> int:
        text = records.get(key)
        if text is None:
            return default
        if not text.isdigit() or len(text) > _NUMBER_DIGITS:
            raise self._damaged(f"{text[:40]!r} is not a number")
        return int(text)

    def _time(self, text: bytes) -> int:
        """Return nanoseconds of a decimal number of seconds, as exact as it is written."""
        whole, _, fraction = text.partition(b".")
        digits = whole.removeprefix(b"-")
        if not digits.isdigit() or len(digits) > _NUMBER_DIGITS or (fraction and not fraction.isdigit()):
            raise self._damaged(f"{text[:40]!r} is not a time")
        value = min(int(digits), 1 << 62) * _NANOSECONDS + int(fraction[:9].ljust(9, b"0"))
        return -value if whole.startswith(b"-") else value

    def _number(self, field: bytes, *, signed: bool = False) -> int:
        if field[0] & 0x80:  # GNU's base 256, for numbers that octal digits do not hold: two's complement
            value = int.from_bytes(bytes([field[0] << 1 & 0x80 | field[0] & 0x7F]) + field[1:], "big", signed=True)
            if value >> 63 not in ((0, -1) if signed else (0,)):
                raise self._damaged(f"{value} is out of range")
            return value
        digits = field.partition(b"\0")[0].strip(b" ")
        if not digits:
            return 0
        if not digits.isdigit() or b"8" in digits or b"9" in digits:  # int() would take underscores and signs, too
            raise self._damaged(f"{digits!r} is not an octal number")
        return int(digits, 8)

    def _damaged(self, why: str) -> BuildError:
        return BuildError(f"{self._what} is damaged: {why}")
