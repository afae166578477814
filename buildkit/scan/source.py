"""Bytes to scan, read in place: a file, a range of another source, or an inflated member."""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol

from buildkit.lazy_dataclass import dataclass


class ScanSource(Protocol):
    """Random access to ``size`` bytes; ``read`` returns fewer than requested only at the end."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``; fewer, or none, at the end."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """An open file. It is not mapped, because a mapped file that shrinks kills its reader."""

    file: BinaryIO
    size: int

    @classmethod
    def of(cls, file: BinaryIO) -> FileSource:
        """Return the whole of an open regular file."""
        return cls(file, os.fstat(file.fileno()).st_size)

    def read(self, offset: int, count: int) -> bytes:
        """Implement ``ScanSource``."""
        return os.pread(self.file.fileno(), max(0, min(count, self.size - offset)), offset)


@dataclass(frozen=True, slots=True)
class BytesSource:
    """Bytes in memory."""

    content: bytes

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.content)

    def read(self, offset: int, count: int) -> bytes:
        """Implement ``ScanSource``."""
        return self.content[offset : offset + max(0, count)]


@dataclass(frozen=True, slots=True)
class RangeSource:
    """``size`` bytes of another source from ``start``: a stored member of an archive."""

    source: ScanSource
    start: int
    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Implement ``ScanSource``."""
        return self.source.read(self.start + offset, max(0, min(count, self.size - offset)))
