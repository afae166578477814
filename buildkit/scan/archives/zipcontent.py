"""The content of one member of a zip archive, whatever its headers claim of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from buildkit.scan.archives import codecs
from buildkit.scan.archives.spill import inflated
from buildkit.scan.archives.streams import Packed
from buildkit.scan.context import ScanContext
from buildkit.scan.source import RangeSource, Source

STORED, DEFLATED, BZIP2, LZMA, ZSTD, XZ = 0, 8, 12, 14, 93, 95
CHECKED = 4 * 2**20  # bytes of a stored member whose checksum is worth reading it for


@dataclass(slots=True)
class Content:
    """What a member holds; ``whole`` is whether its checksum is right, None where nobody looked."""

    source: Source
    whole: bool | None = None
    why: str = ""
    packed: int = 0


def open_method(source: Source, method: int) -> Packed | None:
    """The member's content, packed by ``method``; None for methods that nobody here reads."""
    if method == DEFLATED:
        return codecs.Stream(source, codecs.raw_deflate)
    if method == BZIP2:
        return codecs.Stream(source, codecs.bzip2)
    if method == XZ:
        return codecs.Stream(source, codecs.xz)
    if method == ZSTD:
        return codecs.Zstd(source)
    if method == LZMA:
        return zip_lzma(source)
    return None


def zip_lzma(source: Source) -> Packed:
    """LZMA with the header that zip gives it: version, size of the properties, properties."""
    head = source.read(0, 4)
    size = int.from_bytes(head[2:4], "little")
    properties = source.read(4, size)
    return codecs.Stream(source, lambda: codecs.lzma1(properties), 4 + size)


@contextmanager
def open_content(context: ScanContext, source: Source, method: int, crc: int) -> Iterator[Content | None]:
    """The content of packed ``source``; None where the method is unknown."""
    if method == STORED:
        whole = checksum(source) == crc if source.size <= CHECKED else None
        yield Content(source, whole, packed=source.size)
        return
    packed = open_method(source, method)
    if packed is None:
        yield None
        return
    summed = Sum(packed)
    with inflated(context.budget, summed.chunks(), source.size) as content:
        why = content.why or packed.why
        yield Content(content.source, summed.crc == crc if not why else False, why, packed.end)


@dataclass(slots=True)
class Sum:
    """The checksum of what passes."""

    packed: Packed
    crc: int = 0

    def chunks(self) -> Iterator[bytes]:
        """What comes out."""
        for chunk in self.packed.chunks():
            self.crc = zlib.crc32(chunk, self.crc)
            yield chunk


def checksum(source: Source) -> int:
    """CRC-32 of a source that is small."""
    return zlib.crc32(source.read(0, source.size))


def slice_of(source: Source, start: int, size: int) -> RangeSource:
    """``size`` bytes at ``start``, or what there is of them."""
    return RangeSource(source, start, max(0, min(size, source.size - start)))
