"""Sparse members of tars: GNU's old format, and its pax formats 0.0, 0.1 and 1.0 (GNU tar manual, "Sparse Formats")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from buildkit.layers.tar.header import BLOCK
from buildkit.lazy_dataclass import dataclass

_MOST_PIECES = 1 << 20
_DIGITS = 20


@dataclass(frozen=True, slots=True)
class SparseMap:
    """Where the stored content of a file of ``size`` bytes belongs: offsets and lengths, ascending.

    ``pieces`` is None if the map stands before the content (format 1.0).
    """

    size: int
    pieces: tuple[tuple[int, int], ...] | None

    def check(self, stored: int) -> None:
        """Raises ValueError unless the pieces ascend, fit the file, and have ``stored`` bytes in all."""
        if self.size >> 62:
            raise ValueError("a sparse file is too large")
        at = 0
        for offset, length in self.pieces or ():
            if offset < at or length < 0:
                raise ValueError("pieces of a sparse file overlap")
            at = offset + length
        if at > self.size:
            raise ValueError("a piece of a sparse file lies behind its end")
        if sum(length for _, length in self.pieces or ()) != stored:
            raise ValueError("a sparse file has more or less content than its map says")


def parse_old_sparse_map(blocks: Sequence[bytes]) -> SparseMap:
    """Read the map of the old format: four pieces in the header, 21 in each block that follows it."""
    first, *rest = blocks
    fields = [first[386 + at : 386 + at + 12] for at in range(0, 96, 12)]
    fields += [block[at : at + 12] for block in rest for at in range(0, 504, 12)]
    numbers = [_octal(field) for field in fields if field.strip(b"\0 ")]
    return SparseMap(_octal(first[483:495]), _pairs(numbers))


def parse_pax_sparse_map(records: Mapping[bytes, bytes]) -> SparseMap | None:
    """Read the map in a member's pax records; None if it is not sparse."""
    if records.get(b"GNU.sparse.major") == b"1":
        return SparseMap(_decimal(records.get(b"GNU.sparse.realsize", b"")), None)
    if b"GNU.sparse.map" not in records:
        return None
    text = records[b"GNU.sparse.map"]
    numbers = [_decimal(part) for part in text.split(b",")] if text else []
    return SparseMap(_decimal(records.get(b"GNU.sparse.size", b"")), _pairs(numbers))


class SparsePlacer:
    """Tells where pieces of stored content belong, while they come; reads a map that stands before the content."""

    def __init__(self, sparse: SparseMap, stored: int) -> None:
        self._sparse = sparse
        self._stored = stored
        self._head = b""
        self._pieces: list[list[int]] = []
        self._know(sparse)

    def place(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield offsets in the file, with the bytes that belong there. Raises ValueError for a malformed map."""
        if self._sparse.pieces is None:
            data = self._read_map(data)
        while data and self._pieces:
            piece = self._pieces[-1]
            taken = min(piece[1], len(data))
            if taken:
                yield piece[0], data[:taken]
                data = data[taken:]
                piece[0] += taken
                piece[1] -= taken
            if not piece[1]:
                self._pieces.pop()

    def finish(self) -> None:
        """Raises ValueError if the map was not complete."""
        if self._sparse.pieces is None:
            raise ValueError("the map of a sparse file is cut")

    def _know(self, sparse: SparseMap) -> None:
        self._sparse = sparse
        if sparse.pieces is not None:
            sparse.check(self._stored)
            self._pieces = [list(piece) for piece in reversed(sparse.pieces)]

    def _read_map(self, data: memoryview) -> memoryview:
        """Collect the lines of the map, a count and as many pairs, in whole blocks; return what follows them."""
        self._head += bytes(data)
        lines = self._head.split(b"\n")
        if len(lines) > 1 and (needed := 1 + 2 * _decimal(lines[0])) < len(lines):
            used = sum(len(line) + 1 for line in lines[:needed])
            used += -used % BLOCK
            if used <= len(self._head):
                head, self._head = self._head, b""
                self._stored -= used
                self._know(SparseMap(self._sparse.size, _pairs([_decimal(line) for line in lines[1:needed]])))
                return memoryview(head)[used:]
        if len(self._head) > _MOST_PIECES * _DIGITS:
            raise ValueError("the map of a sparse file is too long")
        return memoryview(b"")


def _pairs(numbers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    if len(numbers) % 2 or len(numbers) > 2 * _MOST_PIECES:
        raise ValueError("the map of a sparse file is not made of pairs, or too long")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > _DIGITS:
        raise ValueError(f"{text[:40]!r} is not a number")
    return int(text)


def _octal(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field[4:], "big")
    return int(field.partition(b"\0")[0].strip(b" ") or b"0", 8)
