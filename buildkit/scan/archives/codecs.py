"""Decompress streams in pieces: no more than one piece is inflated at once, whatever the stream claims."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, cast

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.archives import lz4
from buildkit.scan.source import ScanSource

PIECE = 2**20
INPUT = 64 * 2**10
MEMORY = 192 * 2**20  # bytes that a decoder may use; the largest preset of xz needs 65 MiB
WINDOW = 2**27  # zstd's largest window that can be read without an option


class Decoder(Protocol):
    """The common interface of bz2 and lzma decompressors."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out without input."""

    @property
    def unused_data(self) -> bytes:
        """Input that follows the end of the stream."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most ``max_length`` bytes."""


class DeflateDecoder:
    """zlib's decompressor with the interface of ``Decoder``."""

    def __init__(self, bits: int) -> None:
        """``bits`` select the wrapper as zlib's ``wbits``."""
        self.inner = zlib.decompressobj(bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """Implement ``Decoder``."""
        return self.inner.eof

    @property
    def unused_data(self) -> bytes:
        """Implement ``Decoder``."""
        return self.inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Implement ``Decoder``."""
        out = self.inner.decompress(self.inner.unconsumed_tail + data, max_length)
        self.needs_input = not self.inner.unconsumed_tail and len(out) < max_length
        return out


ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError)


@dataclass(slots=True)
class DecoderStream:
    """The compressed stream at ``start`` of ``source``; after ``chunks``, where it ended and what broke it."""

    source: ScanSource
    make: Callable[[], Decoder]
    start: int = 0
    next_magic: bytes = b""
    end: int = 0
    why: str = ""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content; a stream that follows and begins with ``next_magic`` continues it."""
        self.end = self.start
        while True:
            yield from self.single_stream()
            if self.why or not self.next_magic or self.source.read(self.end, len(self.next_magic)) != self.next_magic:
                return

    def single_stream(self) -> Iterator[bytes]:
        """Yield the content of one stream."""
        try:
            decoder, at = self.make(), self.end
        except ERRORS as error:
            self.why = str(error)
            return
        while not decoder.eof:
            data = self.source.read(at, INPUT) if decoder.needs_input else b""
            if decoder.needs_input and not data:
                self.why = "it ends before its end mark"
                break
            at += len(data)
            try:
                out = decoder.decompress(data, PIECE)
            except ERRORS as error:
                self.why = str(error) or type(error).__name__
                break
            if out:
                yield out
        self.end = at - (len(decoder.unused_data) if decoder.eof else 0)


def lzma_alone_decoder() -> Decoder:
    """Return a decoder of old ``lzma`` files."""
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MEMORY)


def xz_decoder() -> Decoder:
    """Return a decoder of ``xz`` files."""
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)


def gzip_decoder() -> Decoder:
    """Return a decoder of ``gzip`` files."""
    return DeflateDecoder(31)


def zlib_decoder() -> Decoder:
    """Return a decoder of zlib streams."""
    return DeflateDecoder(15)


def deflate_decoder() -> Decoder:
    """Return a decoder of deflate without a wrapper, as in zip."""
    return DeflateDecoder(-15)


def bzip2_decoder() -> Decoder:
    """Return a decoder of ``bzip2`` files."""
    return bz2.BZ2Decompressor()


@dataclass(slots=True)
class ZstdStream:
    """The zstd frames at ``start`` of ``source``; see ``DecoderStream``."""

    source: ScanSource
    start: int = 0
    end: int = 0
    why: str = ""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content of all frames."""
        from zstandard import ZstdDecompressor, ZstdError

        reader = ZstdDecompressor(max_window_size=WINDOW).stream_reader(
            cast("BinaryIO", SourceFile(self.source, self.start)), read_size=INPUT, read_across_frames=True
        )
        try:
            while out := reader.read(PIECE):
                yield out
        except (ZstdError, MemoryError) as error:
            self.why = str(error)
        self.end = self.source.size


@dataclass(slots=True)
class Lz4Stream:
    """The lz4 frame at ``start`` of ``source``; see ``DecoderStream``."""

    source: ScanSource
    start: int = 0
    end: int = 0
    why: str = ""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content."""
        frame = lz4.Lz4Frame(self.source, self.start)
        try:
            yield from frame.chunks()
        except lz4.Lz4Error as error:
            self.why = str(error)
        self.end = frame.at


@dataclass(slots=True)
class SourceFile:
    """A source as the file object that zstandard reads from."""

    source: ScanSource
    at: int

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        data = self.source.read(self.at, size)
        self.at += len(data)
        return data


def lzma1_decoder(properties: bytes) -> Decoder:
    """Return a decoder of LZMA without a wrapper, by its five bytes of properties; raises LZMAError."""
    if len(properties) < 5 or properties[0] >= 225:
        raise lzma.LZMAError("its properties are malformed")
    rest, lc = divmod(properties[0], 9)
    pb, lp = divmod(rest, 5)
    dictionary = int.from_bytes(properties[1:5], "little")
    if dictionary > MEMORY:
        raise lzma.LZMAError(f"it needs a window of {dictionary} bytes")
    chain = [{"id": lzma.FILTER_LZMA1, "dict_size": max(dictionary, 4096), "lc": lc, "lp": lp, "pb": pb}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain)
