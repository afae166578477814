"""Read an ELF file from a stream of chunks and keep only the parts that the dynamic linker reads.

Files of a gigabyte are common (GPU libraries), and the parts to read are spread over them: program headers at the
front, names near the front (or at the end, if a tool has lengthened them), the dynamic section behind the code. So the
front is kept until the dynamic section has arrived, which tells what else is needed; the rest is dropped. Where a file
can be read again, only a small front is kept: if the dynamic section tells that more is needed, it is read then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from buildkit.native.elf import Elf, ElfError, Head, parse_dynamic, parse_elf, parse_head

MOST = 64 << 20  # bytes kept of a file's front: more than the names of the largest libraries
FRONT = 2 << 20  # bytes of it kept of a file that can be read again: all that is needed of most libraries
_HEADERS = 1 << 16  # bytes in which program headers are expected
Windows = tuple[tuple[int, int], ...]


class ElfStream:
    """Takes the bytes of a file in order by `add`; `finish` returns the parsed file.

    ``most`` are the bytes kept of the front. Memory is at most ``limit``, by default twice as much.
    """

    def __init__(self, most: int = MOST, limit: int | None = None) -> None:
        self._most = most
        self._limit = limit or 2 * most
        self._starts: list[int] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._kept = 0
        self._head: Head | None = None
        self._windows: Windows = ()  # parts known to be needed
        self._complete = False  # whether these are all
        self._unusable = False  # whether the headers or the dynamic section cannot be used
        self._too_large = False
        self._dropped: tuple[int, int] | None = None  # from where to where the front was not kept

    def add(self, chunk: bytes) -> None:
        """Add the next bytes."""
        start, self._size = self._size, self._size + len(chunk)
        front = not self._complete and start < self._most
        if self._too_large or not (front or _meets(start, self._size, self._windows)):
            if not self._complete:
                self._dropped = (self._dropped[0] if self._dropped else start, self._size)
            return
        self._starts.append(start)
        self._parts.append(chunk)
        self._kept += len(chunk)
        if not self._complete and not self._unusable:
            self._find_windows()
        if self._kept > self._limit:
            self._too_large = True
            self._parts.clear()

    @property
    def lacks(self) -> bool:
        """Whether parts of the front that are needed were dropped; they are known, so `add_again` finds them."""
        return self._complete and not self._too_large and bool(self._lacking())

    @property
    def is_lost(self) -> bool:
        """Whether the front was dropped before it was known what is needed."""
        return self._dropped is not None and not self._complete

    def add_again(self, chunks: Iterable[bytes]) -> None:
        """Take the same file once more, as far as parts that are needed were dropped; see `lacks`."""
        lacking, known, at = self._lacking(), dict(zip(self._starts, self._parts, strict=True)), 0
        end = max((place + length for place, length in lacking), default=0)
        for chunk in chunks:
            if _meets(at, at + len(chunk), lacking):
                known[at] = chunk
            at += len(chunk)
            self._too_large = sum(map(len, known.values())) > self._limit
            if at >= end or self._too_large:
                break
        self._starts, self._parts = sorted(known), [known[start] for start in sorted(known)]

    def _lacking(self) -> Windows:
        """Return what is needed of the front that was not kept."""
        if self._dropped is None:
            return ()
        start, end = self._dropped
        needed = ((place, place + length) for place, length in self._windows)
        cut = ((max(first, start), min(last, end)) for first, last in needed)
        return tuple((first, last - first) for first, last in cut if first < last)

    def finish(self) -> Elf:
        """Return what the linker reads; raises ElfError, also for a file whose parts are spread too far."""
        if self._too_large:
            raise ElfError(f"the parts to read are spread over more than {self._limit} bytes")
        return parse_elf(self._read)

    def _find_windows(self) -> None:
        """Find out which parts are needed, as soon as the headers or the dynamic section are complete."""
        try:
            if self._head is None and self._size >= _HEADERS:
                self._head = head = parse_head(self._read)
                places = [
                    (segment.offset, segment.size)
                    for segment in (head.dynamic, head.interpreter)
                    if segment is not None
                ]
                self._windows = (*places, (0, _HEADERS))
            if self._head is not None:
                place = self._head.dynamic
                if place is None or self._size >= place.offset + place.size:
                    self._keep_windows(self._head)
        except ElfError:
            self._unusable = True  # the needed parts may still be among those kept

    def _keep_windows(self, head: Head) -> None:
        if (place := head.dynamic) is not None:
            self._windows += parse_dynamic(head, self._read(place.offset, place.size)).windows
        self._complete = True
        kept = [
            (start, part)
            for start, part in zip(self._starts, self._parts, strict=True)
            if _meets(start, start + len(part), self._windows)
        ]
        self._starts, self._parts = [start for start, _ in kept], [part for _, part in kept]
        self._kept = sum(map(len, self._parts))

    def _read(self, offset: int, count: int) -> bytes:
        """Read from the kept bytes as from a file."""
        end = min(offset + count, self._size)
        number = bisect_right(self._starts, offset) - 1
        pieces = []
        while offset < end:
            within = offset - self._starts[number] if 0 <= number < len(self._parts) else -1
            piece = self._parts[number][within : within + end - offset] if within >= 0 else b""
            if not piece:
                raise ElfError("its parts are not where its headers say")
            pieces.append(piece)
            offset += len(piece)
            number += 1
        return b"".join(pieces)


def _meets(start: int, end: int, windows: Sequence[tuple[int, int]]) -> bool:
    return any(start < place + size and place < end for place, size in windows)
