"""A source read from front to back, a window at a time, whatever lengths its content claims."""

from __future__ import annotations

from buildkit.scan.source import ScanSource

WINDOW = 256 * 2**10


class TruncatedError(Exception):
    """The source ends inside something that should have gone on."""


class WindowedReader:
    """Where reading is in ``source``; what is skipped is not read."""

    __slots__ = ("at", "base", "buffer", "source")

    def __init__(self, source: ScanSource, start: int = 0) -> None:
        self.source = source
        self.base = start
        self.buffer = b""
        self.at = 0

    @property
    def offset(self) -> int:
        """The offset in the source of what is read next."""
        return self.base + self.at

    def _fill(self, need: int) -> None:
        """Have at least ``need`` bytes in the window; raises TruncatedError where the source ends before."""
        self.base += self.at
        self.buffer = self.source.read(self.base, max(need, WINDOW))
        self.at = 0
        if len(self.buffer) < need:
            raise TruncatedError(f"ends at byte {self.base + len(self.buffer)}, inside an opcode or its argument")

    def byte(self) -> int:
        """The next byte. Raises TruncatedError at the end."""
        if self.at >= len(self.buffer):
            self._fill(1)
        self.at += 1
        return self.buffer[self.at - 1]

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, which the caller bounds. Raises TruncatedError where there are fewer."""
        if self.at + count > len(self.buffer):
            self._fill(count)
        self.at += count
        return self.buffer[self.at - count : self.at]

    def number(self, count: int) -> int:
        """The next ``count`` bytes as an unsigned number, little endian. Raises TruncatedError."""
        return int.from_bytes(self.take(count), "little")

    def skip(self, count: int) -> None:
        """Go on ``count`` bytes without reading them. Raises TruncatedError where the source ends before."""
        if self.offset + count > self.source.size:
            raise TruncatedError(
                f"{count} bytes are announced at byte {self.offset}, {self.source.size - self.offset} are there"
            )
        self.at += count
        if self.at > len(self.buffer):
            self.base += self.at
            self.buffer, self.at = b"", 0

    def line(self, limit: int) -> tuple[bytes, bool]:
        """Up to ``limit`` bytes of the next line without its end, and whether the line has an end.

        A longer line is read past in windows; only its beginning is kept.
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
