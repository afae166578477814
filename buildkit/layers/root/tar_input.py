"""Chunks of a tar as the file that ``tarfile`` reads, which remembers whether the tar has its end. Pure."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator


class TarInput:
    """A file for tarfile to read chunks from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self._done = 0
        self._last = (b"", b"")

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes; fewer only at the end."""
        parts = [self._rest]
        have = len(self._rest)
        while have < size and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        self._rest = data[size:]
        data = data[:size]
        self._done += len(data)
        self._last = (self._last[1], data)
        return data

    def is_end(self, offset: int) -> bool:
        """Tell whether the header at which tarfile stopped is the end marker.

        tarfile itself also takes a damaged or missing header, unless it is the first, for the end of the archive.
        """
        kept = b"".join(self._last)
        start = offset - (self._done - len(kept))
        block = kept[start : start + tarfile.BLOCKSIZE]
        return len(block) == tarfile.BLOCKSIZE and not any(block)
