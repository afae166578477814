"""An ELF file that goes by in pieces, on its way into a layer or out of one: only what its linker reads is kept.

Files of a gigabyte are common (GPU libraries), and what is to be read is spread over them: program headers in front,
names near the front (or at the end, where a tool has lengthened them), the linker's instructions behind the code. So
the front is kept until the instructions have come by, which say what else is wanted, and all the rest is let go.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from buildkit.native.elf import Elf, ElfError, Head, parse_dynamic, parse_elf, parse_head

MOST = 64 << 20  # bytes of a file's front that are kept: more than the names of the largest libraries
_HEADERS = 1 << 16  # bytes in which program headers are expected
Windows = tuple[tuple[int, int], ...]


class ElfStream:
    """Give it the file's bytes, in order, by `add`; then `finish` says what it is. Memory is at most twice `MOST`."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._starts: list[int] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._kept = 0
        self._head: Head | None = None
        self._wanted: Windows = ()  # places that are known to be read
        self._chosen = False  # whether these are all
        self._blind = False  # whether the headers, or the instructions, are of no use
        self._hopeless = False

    def add(self, chunk: bytes) -> None:
        """The next bytes."""
        start, self._size = self._size, self._size + len(chunk)
        front = not self._chosen and start < self._most
        if self._hopeless or not (front or _meets(start, self._size, self._wanted)):
            return
        self._starts.append(start)
        self._parts.append(chunk)
        self._kept += len(chunk)
        if not self._chosen and not self._blind:
            self._look()
        if self._kept > 2 * self._most:
            self._hopeless = True
            self._parts.clear()

    def finish(self) -> Elf:
        """What the linker reads of it; raises ElfError, also for a file that spreads its parts too far."""
        if self._hopeless:
            raise ElfError(f"what is read of it is spread over more than {2 * self._most} bytes")
        return parse_elf(self._read)

    def _look(self) -> None:
        """Learn what is wanted as soon as it is to be known."""
        try:
            if self._head is None and self._size >= _HEADERS:
                self._head = head = parse_head(self._read)
                places = [(one.offset, one.size) for one in (head.dynamic, head.interpreter) if one is not None]
                self._wanted = (*places, (0, _HEADERS))
            if self._head is not None:
                place = self._head.dynamic
                if place is None or self._size >= place.offset + place.size:
                    self._choose(self._head)
        except ElfError:
            self._blind = True  # what is read may still be among what is kept

    def _choose(self, head: Head) -> None:
        if (place := head.dynamic) is not None:
            self._wanted += parse_dynamic(head, self._read(place.offset, place.size)).windows
        self._chosen = True
        kept = [
            (start, part)
            for start, part in zip(self._starts, self._parts, strict=True)
            if _meets(start, start + len(part), self._wanted)
        ]
        self._starts, self._parts = [start for start, _ in kept], [part for _, part in kept]
        self._kept = sum(map(len, self._parts))

    def _read(self, offset: int, count: int) -> bytes:
        """Bytes that were kept, as of a file."""
        end = min(offset + count, self._size)
        number = bisect_right(self._starts, offset) - 1
        pieces = []
        while offset < end:
            within = offset - self._starts[number] if 0 <= number < len(self._parts) else -1
            piece = self._parts[number][within : within + end - offset] if within >= 0 else b""
            if not piece:
                raise ElfError("what is read of it is not where its headers lead to expect it")
            pieces.append(piece)
            offset += len(piece)
            number += 1
        return b"".join(pieces)


def _meets(start: int, end: int, windows: Sequence[tuple[int, int]]) -> bool:
    return any(start < place + size and place < end for place, size in windows)
