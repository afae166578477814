"""Compressed files, as joblib and tar write them: recognised by inflating their beginning, scanned inflated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.archives import codecs, lz4
from buildkit.scan.archives.spill import inflate
from buildkit.scan.context import ScanContext
from buildkit.scan.source import RangeSource, ScanSource

BEGINNING = 64 * 2**10
PADDING = 2**16
ZF = b"ZF"  # joblib before 0.10: magic, length in hexadecimal digits padded to 19 bytes, zlib
ZF_HEADER = 21


class CompressedStream(Protocol):
    """A compressed stream; ``end`` and ``why`` are set after ``chunks``."""

    why: str
    end: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the inflated content."""


Open = Callable[[ScanSource], CompressedStream]


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression: its magic, and how to open a stream of it."""

    name: str
    magic: bytes
    open: Open

    def recognise(self, head: bytes, source: ScanSource) -> bool:
        """Return whether content has the magic and something can be inflated."""
        if not head.startswith(self.magic) or (self.name == "zlib" and not is_zlib_header(head)):
            return False
        if len(self.magic) >= 4:
            return True
        packed = self.open(RangeSource(source, 0, min(source.size, BEGINNING)))
        return next(packed.chunks(), b"") != b""

    def scan(self, context: ScanContext, source: ScanSource) -> None:
        """Scan the inflated content, and what follows the stream."""
        packed = self.open(source)
        with inflate(context.budget, packed.chunks(), source.size) as content:
            why = content.why or (packed.why and f"its {self.name} stream is broken: {packed.why}")
            if why:
                context.gap(why)
            context.descend(self.name, content.source, context.declared)  # the same file, unpacked
        left = source.size - packed.end
        if why or left <= 0 or (left <= PADDING and not source.read(packed.end, left).strip(b"\0")):
            return
        context.descend(f"rest@{packed.end}", RangeSource(source, packed.end, left))


def is_zlib_header(head: bytes) -> bool:
    """Return whether two bytes are a zlib header (RFC 1950) without a dictionary."""
    return (
        len(head) > 2
        and head[0] & 15 == 8
        and head[0] >> 4 <= 7
        and not (head[0] << 8 | head[1]) % 31
        and not head[1] & 32
    )


def open_stream(
    source: ScanSource, make: Callable[[], codecs.Decoder], next_magic: bytes = b"", start: int = 0
) -> CompressedStream:
    """Open a stream with one of the standard library's decoders."""
    return codecs.DecoderStream(source, make, start, next_magic)


CODECS = (
    Codec("gzip", b"\x1f\x8b\x08", partial(open_stream, make=codecs.gzip_decoder, next_magic=b"\x1f\x8b\x08")),
    Codec("zlib", b"", partial(open_stream, make=codecs.zlib_decoder)),
    Codec("zlib of old joblib", ZF, partial(open_stream, make=codecs.zlib_decoder, start=ZF_HEADER)),
    Codec("bzip2", b"BZh", partial(open_stream, make=codecs.bzip2_decoder, next_magic=b"BZh")),
    Codec("xz", b"\xfd7zXZ\x00", partial(open_stream, make=codecs.xz_decoder, next_magic=b"\xfd7zXZ\x00")),
    Codec("lzma", b"\x5d\x00\x00", partial(open_stream, make=codecs.lzma_alone_decoder)),
    Codec("zstd", b"\x28\xb5\x2f\xfd", codecs.ZstdStream),
    Codec("lz4", lz4.MAGIC, codecs.Lz4Stream),
)
