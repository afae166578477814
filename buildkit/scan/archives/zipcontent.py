"""The content of one member of a zip archive, whatever its headers claim."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.archives import codecs
from buildkit.scan.archives.spill import inflate
from buildkit.scan.archives.streams import CompressedStream
from buildkit.scan.context import ScanContext
from buildkit.scan.source import RangeSource, ScanSource

STORED, DEFLATED, BZIP2, LZMA, ZSTD, XZ = 0, 8, 12, 14, 93, 95
CHECKED = 4 * 2**20  # the checksum of a larger stored member is not computed


@dataclass(slots=True)
class MemberContent:
    """A member's content; ``whole`` is whether its checksum is right, None if it was not computed."""

    source: ScanSource
    whole: bool | None = None
    why: str = ""
    packed: int = 0


def open_method(source: ScanSource, method: int) -> CompressedStream | None:
    """Open content compressed by ``method``; None for an unsupported method."""
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
    """Open LZMA with zip's header: version, size of the properties, properties."""
    head = source.read(0, 4)
    size = int.from_bytes(head[2:4], "little")
    properties = source.read(4, size)
    return codecs.DecoderStream(source, lambda: codecs.lzma1_decoder(properties), 4 + size)


@contextmanager
def open_content(context: ScanContext, source: ScanSource, method: int, crc: int) -> Iterator[MemberContent | None]:
    """Inflate the compressed ``source``; None for an unsupported method."""
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
    """Computes the CRC-32 of a stream's content."""

    packed: CompressedStream
    crc: int = 0

    def chunks(self) -> Iterator[bytes]:
        """Yield the content."""
        for chunk in self.packed.chunks():
            self.crc = zlib.crc32(chunk, self.crc)
            yield chunk


def checksum(source: ScanSource) -> int:
    """Return the CRC-32 of a small source."""
    return zlib.crc32(source.read(0, source.size))


def clip_range(source: ScanSource, start: int, size: int) -> RangeSource:
    """Return ``size`` bytes at ``start``, or as many as exist."""
    return RangeSource(source, start, max(0, min(size, source.size - start)))
