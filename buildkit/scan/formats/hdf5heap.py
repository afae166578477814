"""HDF5's fractal heaps, which store the links and attributes of large objects, and the B-trees that index them.

Spec: HDF5 File Format Specification 3.0, III.A.2 (version 2 trees) and III.G (heaps).
"""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.formats.cursor import Cursor, MalformedContentError, PagedSource
from buildkit.scan.formats.hdf5store import AddressLayout
from buildkit.scan.limits import LimitError

_RECORDS = 1_000_000
_DEPTH = 16


def _width(limit: int) -> int:
    """Return how many bytes HDF5 uses for numbers up to ``limit``."""
    return max(limit.bit_length() - 1, 0) // 8 + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heap:
    window: PagedSource
    layout: AddressLayout
    id_length: int
    bits: int
    width: int
    start: int
    direct: int
    root: int
    rows: int
    huge: int

    @property
    def direct_rows(self) -> int:
        """Number of rows of a block's table that hold data blocks."""
        return self.direct.bit_length() - self.start.bit_length() + 2


def _parse_heap(window: PagedSource, layout: AddressLayout, at: int) -> _Heap:
    cursor = Cursor(window, at)
    if cursor.take(4) != b"FRHP":
        raise MalformedContentError("not a fractal heap", at)
    cursor.skip(1)
    id_length, filters = cursor.number(2), cursor.number(2)
    cursor.skip(1)
    cursor.skip(4 + layout.lengths)
    huge = layout.address(cursor)
    cursor.skip(9 * layout.lengths + layout.offsets)
    width, start, direct = cursor.number(2), layout.length(cursor), layout.length(cursor)
    bits = cursor.number(2)
    cursor.skip(2)
    root, rows = layout.address(cursor), cursor.number(2)
    powers = all(0 < size <= 2**32 and not size & (size - 1) for size in (width, start, direct))
    if filters or not powers or not 8 <= bits <= 64 or rows > 128 or not 2 <= id_length <= 64:
        raise MalformedContentError("a fractal heap that is compressed, or of impossible sizes", at)
    return _Heap(window=window, layout=layout, id_length=id_length, bits=bits, width=width, start=start,
                 direct=direct, root=root, rows=rows, huge=huge)  # fmt: skip


def find_messages(window: PagedSource, layout: AddressLayout, heap_at: int, tree: int) -> Iterator[int]:
    """Yield the offsets of the messages in a heap, in the order of the tree that names them.

    Raises:
        MalformedContentError: the heap or the tree is malformed.
        LimitError: there are more messages than are read.
    """
    heap = _parse_heap(window, layout, heap_at)
    huge: dict[int, int] | None = None
    for kind, record in _records(window, layout, tree):
        if kind not in (5, 8):
            raise MalformedContentError(f"a tree of kind {kind}", tree)
        if kind == 8 and record[heap.id_length] & 2:
            raise MalformedContentError("a shared attribute", tree)
        name = record[4:] if kind == 5 else record
        place = name[0] >> 4 & 3
        if place == 0:
            yield _managed(heap, int.from_bytes(name[1 : 1 + (heap.bits + 7) // 8], "little"))
        elif place == 1:
            huge = _huge(heap) if huge is None else huge
            key = int.from_bytes(name[1 : heap.id_length], "little")
            if key not in huge:
                raise MalformedContentError("a large object that does not exist", heap_at)
            yield huge[key]
        else:
            raise MalformedContentError("a tiny object", heap_at)


def _huge(heap: _Heap) -> dict[int, int]:
    """Return the objects that are too large for the heap's blocks: number to offset."""
    found = {}
    offsets, lengths = heap.layout.offsets, heap.layout.lengths
    for kind, record in _records(heap.window, heap.layout, heap.huge):
        if kind != 1:
            raise MalformedContentError(f"a tree of large objects of kind {kind}", heap.huge)
        key = int.from_bytes(record[offsets + lengths : offsets + 2 * lengths], "little")
        found[key] = heap.layout.base + int.from_bytes(record[:offsets], "little")
    return found


def _managed(heap: _Heap, offset: int) -> int:
    """Return the offset of the object at ``offset`` of the heap's own address space."""
    block, rows = heap.root, heap.rows
    if rows == 0:
        return block + offset
    for _ in range(_DEPTH):
        cursor = Cursor(heap.window, block)
        if cursor.take(4) != b"FHIB":
            raise MalformedContentError("not a table of a fractal heap", block)
        row, size = 0, heap.start
        while row < rows and offset >= size * heap.width:
            offset -= size * heap.width
            row += 1
            size = heap.start << max(row - 1, 0)
        column, offset = divmod(offset, size)
        if row >= rows:
            raise MalformedContentError("an object beyond its heap", block)
        cursor.skip(1 + heap.layout.offsets + (heap.bits + 7) // 8)
        cursor.skip((row * heap.width + column) * heap.layout.offsets)
        block = heap.layout.address(cursor)
        if row < heap.direct_rows:
            return block + offset
        rows = size.bit_length() - (heap.start * heap.width).bit_length() + 1
    raise MalformedContentError("a fractal heap nested too deeply", heap.root)


def _records(window: PagedSource, layout: AddressLayout, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield kind and bytes of every record of a version 2 tree."""
    cursor = Cursor(window, at)
    if cursor.take(4) != b"BTHD":
        raise MalformedContentError("not a tree", at)
    cursor.skip(1)
    kind, node, size, depth = cursor.number(1), cursor.number(4), cursor.number(2), cursor.number(2)
    cursor.skip(2)
    root, count = layout.address(cursor), cursor.number(2)
    least = {1: layout.offsets + 2 * layout.lengths, 5: 11, 8: 17}.get(kind, 1)
    if size < least or node < size + 10 or depth > _DEPTH:
        raise MalformedContentError(f"a tree of kind {kind} with records of {size} bytes, {depth} deep", at)
    widths = _pointer_widths(layout, node, size, depth)
    todo, left = [(root, count, depth)] if count else [], _RECORDS
    while todo:
        place, count, depth = todo.pop()
        left -= count + 1
        if left < 0:
            raise LimitError(f"more than {_RECORDS} links or attributes at one object")
        cursor = Cursor(window, place)
        if cursor.take(4) != (b"BTIN" if depth else b"BTLF"):
            raise MalformedContentError("not a node of a tree", place)
        cursor.skip(2)
        for _ in range(count):
            yield kind, cursor.take(size)
        for _ in range(count + 1 if depth else 0):
            child, inner = layout.address(cursor), cursor.number(widths[0])
            cursor.skip(widths[depth] if depth > 1 else 0)
            todo.append((child, inner, depth - 1))


def _pointer_widths(layout: AddressLayout, node: int, size: int, depth: int) -> list[int]:
    """Return the width of a child's record count, then by level the width of the count of all records below it."""
    most = total = (node - 10) // size
    widths = [_width(most)]
    below = 0
    for _ in range(depth):
        widths.append(below)
        pointer = layout.offsets + widths[0] + below
        most = (node - 10 - pointer) // (size + pointer)
        total = (most + 1) * total + most
        below = _width(total)
    return widths
