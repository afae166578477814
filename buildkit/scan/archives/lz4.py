"""Decode LZ4 frames in Python: hostile input cannot corrupt memory, and no library is needed.

Follows the LZ4 frame format 1.6.4 and the block format. Checksums are not verified: a scan reads what is there.
"""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.source import ScanSource

MAGIC = b"\x04\x22\x4d\x18"
SIZES = {4: 64 * 2**10, 5: 256 * 2**10, 6: 2**20, 7: 4 * 2**20}
BACK = 64 * 2**10  # bytes that a match may reach back
PLAIN = 0x80000000


class Lz4Error(Exception):
    """The frame is malformed."""


@dataclass(slots=True)
class Lz4Frame:
    """The frame at ``at`` of ``source``; reading advances ``at``."""

    source: ScanSource
    at: int

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes; raises Lz4Error at the end of the file."""
        data = self.source.read(self.at, count)
        if len(data) < count:
            raise Lz4Error("it ends before its end mark")
        self.at += count
        return data

    def number(self) -> int:
        """Return the next four bytes as a number."""
        return int.from_bytes(self.take(4), "little")

    def chunks(self) -> Iterator[bytes]:
        """Yield the content, one block at a time. Raises Lz4Error."""
        if self.take(4) != MAGIC:
            raise Lz4Error("it is not an LZ4 frame")
        flags, sizes = self.take(2)
        if flags >> 6 != 1 or (sizes >> 4 & 7) not in SIZES:
            raise Lz4Error("its frame is of an unknown version")
        if flags & 1:
            raise Lz4Error("it needs a dictionary")
        self.take((8 if flags & 8 else 0) + 1)
        most = SIZES[sizes >> 4 & 7]
        before = b""
        while size := self.number():
            data = self.take(min(size & ~PLAIN, 2 * most))
            out = data if size & PLAIN else decode_block(data, before, most)
            if flags & 16:
                self.take(4)
            yield out
            before = b"" if flags & 32 else (before + out)[-BACK:]
        if flags & 4:
            self.take(4)


def decode_block(data: bytes, before: bytes, most: int) -> bytes:
    """Decode one block, which may repeat bytes of ``before``; at most ``most`` bytes. Raises Lz4Error."""
    out = bytearray(before)
    start, at, limit = len(before), 0, len(before) + most
    try:
        while True:
            token = data[at]
            at += 1
            count, at = read_length(data, at, token >> 4)
            out += data[at : at + count]
            at += count
            if at >= len(data):
                break
            back = data[at] | data[at + 1] << 8
            count, at = read_length(data, at + 2, token & 15)
            copy_match(out, back, min(count + 4, limit - len(out) + 1))
            if len(out) > limit:
                raise Lz4Error("a block is larger than its frame declares")
    except IndexError:
        raise Lz4Error("a block ends inside a sequence") from None
    if at > len(data):
        raise Lz4Error("a block ends inside a literal")
    return bytes(out[start:])


def read_length(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    """Return a length that begins in a nibble and continues in bytes, and the offset after it."""
    if nibble == 15:
        while data[at] == 255:
            nibble += 255
            at += 1
        nibble += data[at]
        at += 1
    return nibble, at


def copy_match(out: bytearray, back: int, count: int) -> None:
    """Append ``count`` bytes from ``back`` bytes before the end; the ranges may overlap."""
    if not 0 < back <= len(out):
        raise Lz4Error("a match reaches back too far")
    if back >= count:
        at = len(out) - back
        out += out[at : at + count]
    else:
        part = bytes(out[-back:])
        out += (part * (count // back + 1))[:count]
