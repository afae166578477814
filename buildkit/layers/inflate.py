"""Stored blobs back to tars, in pieces."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from buildkit.layers.member import Compression

_CHUNK = 1 << 20


def inflate(path: Path, compression: Compression) -> Iterator[bytes]:
    """The tar in pieces of about a mebibyte, however well it is compressed; zlib.error or ValueError for no such."""
    with path.open("rb") as file:
        if compression is Compression.ZSTD:
            yield from _unzstd(file)
            return
        gunzip = _Gzip() if compression is Compression.GZIP else None
        while chunk := file.read(_CHUNK):
            yield from gunzip(chunk) if gunzip else (chunk,)


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    try:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)  # zstd:chunked has many
        while chunk := reader.read(_CHUNK):
            yield chunk
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


class _Gzip:
    """Inflates a gzip file of any number of members."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(31)

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            yield self._member.decompress(chunk, _CHUNK)
            chunk = self._member.unconsumed_tail or self._member.unused_data
            if self._member.eof:
                self._member = zlib.decompressobj(31)
