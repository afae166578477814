"""Decompress stored blobs to tars, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol, cast

from buildkit.layers.tar.member import Compression

_CHUNK = 1 << 20
_WRAPPED = 31  # window bits of a gzip file


class ReadableFile(Protocol):
    """A file that is read from its beginning."""

    def read(self, size: int = ..., /) -> bytes:
        """Return the next bytes, fewer than ``size`` only before the end."""


def inflate(path: Path, compression: Compression) -> Iterator[bytes]:
    """Yield the tar in pieces of about a mebibyte; raises ValueError for a damaged blob."""
    with path.open("rb") as file:
        yield from inflate_file(file, compression)


def inflate_file(file: ReadableFile, compression: Compression) -> Iterator[bytes]:
    """Yield the tar of an open file, which is read to its end, as `inflate` does."""
    if compression in (Compression.ZSTD, Compression.CHUNKED):
        yield from _unzstd(file)
        return
    gunzip = _Gzip() if compression is Compression.GZIP else None
    while chunk := file.read(_CHUNK):
        yield from gunzip(chunk) if gunzip else (chunk,)


def _unzstd(file: ReadableFile) -> Iterator[bytes]:
    import zstandard

    try:
        source = cast("IO[bytes]", file)  # of which only `read` is used
        reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)  # zstd:chunked has many
        while chunk := reader.read(_CHUNK):
            yield chunk
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


class _Gzip:
    """Inflates a gzip file of any number of members."""

    def __init__(self) -> None:
        from isal import isal_zlib  # twice as fast as zlib; slow to load, and only needed to read blobs

        self._new = isal_zlib.decompressobj
        self._damage = cast("type[Exception]", isal_zlib.error)  # its stub takes the class for an instance
        self._member = self._new(_WRAPPED)

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        try:
            while chunk:
                yield self._member.decompress(chunk, _CHUNK)
                chunk = self._member.unconsumed_tail or self._member.unused_data
                if self._member.eof:
                    self._member = self._new(_WRAPPED)
        except self._damage as error:
            raise ValueError(str(error)) from error
