"""Read a source from front to back, one window at a time, whatever lengths its content claims."""

from __future__ import annotations

from buildkit.scan.source import ScanSource

WINDOW = 256 * 2**10


class TruncatedError(Exception):
    """The source ends inside something that should continue."""


class WindowedReader:
    """A position in ``source``; skipped bytes are not read."""

    __slots__ = ("at", "base", "buffer", "source")

    def __init__(self, source: ScanSource, start: int = 0) -> None:
        self.source = source
        self.base = start
        self.buffer = b""
        self.at = 0

    @property
    def offset(self) -> int:
        """Offset in the source of the next byte."""
        return self.base + self.at

    def _fill(self, need: int) -> None:
        """Load at least ``need`` bytes into the window; raises TruncatedError if the source ends before."""
        self.base += self.at
        self.buffer = self.source.read(self.base, max(need, WINDOW))
        self.at = 0
        if len(self.buffer) < need:
            raise TruncatedError(f"ends at byte {self.base + len(self.buffer)}, inside an opcode or its argument")

    def byte(self) -> int:
        """Return the next byte. Raises TruncatedError at the end."""
        if self.at >= len(self.buffer):
            self._fill(1)
        self.at += 1
        return self.buffer[self.at - 1]

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes, which the caller bounds. Raises TruncatedError if there are fewer."""
        if self.at + count > len(self.buffer):
            self._fill(count)
        self.at += count
        return self.buffer[self.at - count : self.at]

    def number(self, count: int) -> int:
        """Return the next ``count`` bytes as an unsigned little-endian number. Raises TruncatedError."""
        return int.from_bytes(self.take(count), "little")

    def skip(self, count: int) -> None:
        """Advance ``count`` bytes without reading. Raises TruncatedError if the source ends before."""
        if self.offset + count > self.source.size:
            raise TruncatedError(
                f"{count} bytes are declared at byte {self.offset}, but only {self.source.size - self.offset} follow"
            )
        self.at += count
        if self.at > len(self.buffer):
            self.base += self.at
            self.buffer, self.at = b"", 0

    def line(self, limit: int) -> tuple[bytes, bool]:
        """Return up to ``limit`` bytes of the next line without its end, and whether the line has an end.

        A longer line is read through in windows; only its beginning is kept.
        """
        kept = b""
        while True:
            if self.at >= len(self.buffer):
                self.base += self.at
                self.buffer, self.at = self.source.read(self.base, WINDOW), 0
                if not self.buffer:
                    return kept, False
            end = self.buffer.find(b"\n", self.at)
            stop = len(self.buffer) if end < 0 else end
            if len(kept) < limit:
                kept += self.buffer[self.at : min(stop, self.at + limit - len(kept))]
            self.at = stop if end < 0 else end + 1
            if end >= 0:
                return kept, True
