"""Blobs are read to their very end, where a file that is downloaded meanwhile says whether it is the right one."""

from __future__ import annotations

import gzip
import io

import pytest
import zstandard

from buildkit.layers.tar.decompress import inflate_file
from buildkit.layers.tar.member import Compression

_TAR = bytes(range(256)) * 9000


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


class _Wrong(io.BytesIO):
    """A file that turns out at its end to be another."""

    def read(self, size: int | None = -1, /) -> bytes:
        if data := super().read(size):
            return data
        raise LookupError


@pytest.mark.parametrize(
    ("data", "compression"),
    [
        (_TAR, Compression.NONE),
        (gzip.compress(_TAR), Compression.GZIP),
        (gzip.compress(_TAR) + gzip.compress(b"more"), Compression.GZIP),
        (_zstd(_TAR), Compression.ZSTD),
        (_zstd(_TAR) + _zstd(b"more"), Compression.CHUNKED),
        (zstandard.ZstdCompressor(write_content_size=False).compressobj().compress(b""), Compression.ZSTD),
    ],
)
def test_end_of_the_file_is_read(data: bytes, compression: Compression) -> None:
    with pytest.raises(LookupError):
        list(inflate_file(_Wrong(data), compression))
