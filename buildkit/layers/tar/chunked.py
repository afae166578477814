"""The compressor of zstd:chunked: zstd whose frames hold one file each, with a table of contents at the end.

Registry clients that know it (containers/storage: podman, CRI-O) fetch the table and then only the files that no layer
of theirs has; to all others it is zstd. The format is that of containers/storage, pkg/chunked/compressor.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fastcrc import crc64

from buildkit.layers.tar.parser import LayerMember, TarParser
from buildkit.layers.tar.toc import Toc, render_toc
from buildkit.layers.tar.toc_writer import StoredContent, TocWriter

if TYPE_CHECKING:
    from zstandard import ZstdCompressionObj

_HEADERS = 1 << 20  # bytes of headers that are compressed at once


class ChunkedCompressor:
    """Compresses a tar that it is given in pieces; `toc` is there once `flush` has returned.

    A tar that the table cannot describe exactly as containers/storage reads it (sparse files, names that are no UTF-8,
    a path that comes twice, times of access) gets none: `toc` stays None, and the blob is zstd.
    """

    def __init__(self, level: int) -> None:
        import zstandard

        self._zstd = zstandard.ZstdCompressor(level=level)
        self._parser = TarParser(self, "the layer")
        self._table: TocWriter | None = TocWriter(zstandard.ZstdCompressor(level=level).compressobj())
        self._frames: list[bytes] = []
        self._offset = 0
        self._headers = bytearray()  # bytes of the tar between contents, not compressed yet
        self._frame: _Frame | None = None
        self.toc: Toc | None = None

    def compress(self, data: bytes, /) -> bytes:
        """Take the next bytes of the tar; return bytes of the blob."""
        self._parser.feed(data)
        return self._take()

    def flush(self) -> bytes:
        """Return the end of the blob."""
        self._parser.finish()
        self._end_headers()
        if self._table is not None:
            tar_split, size = self._table.close()
            table = self._table.render(tar_split)
            end, self.toc = render_toc(self._offset, (self._zstd.compress(table), len(table)), (tar_split, size))
            self._frames.append(end)
        return self._take()

    # what the parser finds

    def raw(self, data: memoryview | bytes) -> None:
        """Take bytes that are no content."""
        self._headers += data
        if self._table is not None:
            self._table.raw(data)
        if len(self._headers) > _HEADERS:
            self._end_headers()

    def start(self, member: LayerMember) -> None:
        """Take a member."""
        if self._table is not None and not self._table.start(member):
            self._table = None
        if member.size:
            self._end_headers()
            self._frame = _Frame(self._offset, self._zstd.compressobj(size=member.size))

    def content(self, data: memoryview) -> None:
        """Take a piece of the member's content."""
        if self._frame is not None:
            self._write(self._frame.compress(data))

    def end(self) -> None:
        """End the member."""
        frame, self._frame = self._frame, None
        if frame is not None:
            self._write(frame.flush())
        if self._table is not None:
            self._table.end(frame.facts(self._offset) if frame else None)

    def _end_headers(self) -> None:
        if self._headers:
            self._write(self._zstd.compress(self._headers))
            self._headers = bytearray()

    def _write(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._offset += len(frame)

    def _take(self) -> bytes:
        taken, self._frames = b"".join(self._frames), []
        return taken


class _Frame:
    """The frame of one file's content; it starts at ``offset``."""

    def __init__(self, offset: int, frame: ZstdCompressionObj) -> None:
        self._offset = offset
        self._frame = frame
        self._sha256 = hashlib.sha256()
        self._crc = 0

    def compress(self, data: memoryview) -> bytes:
        self._sha256.update(data)
        self._crc = crc64.go_iso(data, self._crc)
        return bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        return bytes(self._frame.flush())

    def facts(self, end: int) -> StoredContent:
        return StoredContent(self._offset, end, self._sha256.hexdigest(), self._crc)
