"""The content of one member of a zip archive, whatever its headers claim of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from buildkit.scan.archives import codecs
from buildkit.scan.archives.spill import inflate
from buildkit.scan.archives.streams import CompressedStream
from buildkit.scan.context import ScanContext
from buildkit.scan.source import RangeSource, ScanSource

STORED, DEFLATED, BZIP2, LZMA, ZSTD, XZ = 0, 8, 12, 14, 93, 95
CHECKED = 4 * 2**20  # bytes of a stored member whose checksum is worth reading it for


@dataclass(slots=True)
class MemberContent:
    """What a member holds; ``whole`` is whether its checksum is right, None where nobody looked."""

    source: ScanSource
    whole: bool | None = None
    why: str = ""
    packed: int = 0


def open_method(source: ScanSource, method: int) -> CompressedStream | None:
    """The member's content, packed by ``method``; None for methods that nobody here reads."""
    if method == DEFLATED:
        return codecs.DecoderStream(source, codecs.deflate_decoder)
    if method == BZIP2:
        return codecs.DecoderStream(source, codecs.bzip2_decoder)
    if method == XZ:
        return codecs.DecoderStream(source, codecs.xz_decoder)
    if method == ZSTD:
        return codecs.ZstdStream(source)
    if method == LZMA:
        return zip_lzma(source)
    return None


def zip_lzma(source: ScanSource) -> CompressedStream:
    """LZMA with the header that zip gives it: version, size of the properties, properties."""
    head = source.read(0, 4)
    size = int.from_bytes(head[2:4], "little")
    properties = source.read(4, size)
    return codecs.DecoderStream(source, lambda: codecs.lzma1_decoder(properties), 4 + size)


@contextmanager
def open_content(context: ScanContext, source: ScanSource, method: int, crc: int) -> Iterator[MemberContent | None]:
    """The content of packed ``source``; None where the method is unknown."""
    if method == STORED:
        whole = checksum(source) == crc if source.size <= CHECKED else None
        yield MemberContent(source, whole, packed=source.size)
        return
    packed = open_method(source, method)
    if packed is None:
        yield None
        return
    summed = ChecksumStream(packed)
    with inflate(context.budget, summed.chunks(), source.size) as content:
        why = content.why or packed.why
        yield MemberContent(content.source, summed.crc == crc if not why else False, why, packed.end)


@dataclass(slots=True)
class ChecksumStream:
    """The checksum of what passes."""

    packed: CompressedStream
    crc: int = 0

    def chunks(self) -> Iterator[bytes]:
        """What comes out."""
        for chunk in self.packed.chunks():
            self.crc = zlib.crc32(chunk, self.crc)
            yield chunk


def checksum(source: ScanSource) -> int:
    """CRC-32 of a source that is small."""
    return zlib.crc32(source.read(0, source.size))


def clip_range(source: ScanSource, start: int, size: int) -> RangeSource:
    """``size`` bytes at ``start``, or what there is of them."""
    return RangeSource(source, start, max(0, min(size, source.size - start)))
