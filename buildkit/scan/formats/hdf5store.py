"""HDF5's storage: superblock, object headers, trees, heaps. Spec: HDF5 File Format Specification 3.0, II-IV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.formats.cursor import Cursor, MalformedContentError, PagedSource
from buildkit.scan.limits import LimitError

_MESSAGES = 100_000
_NODES = 100_000
_STRINGS = 10_000


@dataclass(frozen=True, slots=True)
class AddressLayout:
    """The width of addresses (``offsets``) and lengths, and the base of addresses."""

    offsets: int
    lengths: int
    base: int = 0

    @property
    def undefined(self) -> int:
        """The undefined address."""
        return self.base + (1 << 8 * self.offsets) - 1

    def address(self, cursor: Cursor) -> int:
        """Return the next address, as an offset in the source."""
        return self.base + cursor.number(self.offsets)

    def length(self, cursor: Cursor) -> int:
        """Return the next length."""
        return cursor.number(self.lengths)


class HeaderMessage(NamedTuple):
    """A header message: its kind, the position of its ``size`` bytes, and whether they are shared."""

    kind: int
    at: int
    size: int
    shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdf5Attribute:
    """An attribute's value: position, count and width of its elements; ``variable`` if these lie in a heap."""

    name: str
    at: int
    count: int
    width: int
    text: bool
    variable: bool


def parse_superblock(window: PagedSource) -> tuple[AddressLayout, int, int]:
    """Return the layout, the root group's address, and the end of the content.

    Raises:
        MalformedContentError: the version is unknown.
    """
    version = window.number(8, 1)
    if version in (0, 1):
        cursor = Cursor(window, 13)
        layout = _layout(cursor)
        cursor.at = 24 if version == 0 else 28
        places = [cursor.number(layout.offsets) for _ in range(4)]
        cursor.skip(layout.offsets)
        return layout, cursor.number(layout.offsets), places[2]
    if version not in (2, 3):
        raise MalformedContentError(f"a superblock of version {version}", 8)
    cursor = Cursor(window, 9)
    layout = _layout(cursor)
    cursor.skip(1)
    places = [cursor.number(layout.offsets) for _ in range(4)]
    return layout, places[3], places[2]


def _layout(cursor: Cursor) -> AddressLayout:
    offsets, lengths = cursor.number(1), cursor.number(1)
    if offsets not in (2, 4, 8) or lengths not in (2, 4, 8):
        raise MalformedContentError(f"addresses of {offsets} and lengths of {lengths} bytes", cursor.at)
    return AddressLayout(offsets, lengths)


def messages(window: PagedSource, layout: AddressLayout, address: int) -> Iterator[HeaderMessage]:
    """Yield the messages of the object header at ``address``, including its continuations.

    Raises:
        MalformedContentError: there is no header.
        LimitError: there are more messages than are read.
    """
    is_new = window.read(address, 4) == b"OHDR"
    cursor = Cursor(window, address)
    flags = 0
    if is_new:
        cursor.skip(5)
        flags = cursor.number(1)
        cursor.skip((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
        size = cursor.number(1 << (flags & 3))
    else:
        if cursor.number(1) != 1:
            raise MalformedContentError("not an object header", address)
        cursor.skip(7)
        size = cursor.number(4)
        cursor.skip(4)
    chunks, count, done = [(cursor.at, size)], 0, set()
    while chunks:
        start, size = chunks.pop()
        if start in done:
            continue
        done.add(start)
        for message in _chunk(window, (start, size), is_new, flags):
            count += 1
            if count > _MESSAGES:
                raise LimitError(f"more than {_MESSAGES} messages are in one object's header")
            if message.kind == 0x10:
                place = Cursor(window, message.at)
                at, size = layout.address(place), layout.length(place)
                chunks.append((at + 4, size - 8) if is_new else (at, size))
            elif message.kind:
                yield message


def _chunk(window: PagedSource, chunk: tuple[int, int], is_new: bool, flags: int) -> Iterator[HeaderMessage]:
    cursor, end = Cursor(window, chunk[0]), chunk[0] + chunk[1]
    head = (4 + (2 if flags & 4 else 0)) if is_new else 8
    while cursor.at + head <= end:
        kind = cursor.number(1 if is_new else 2)
        size, bits = cursor.number(2), cursor.number(1)
        cursor.skip(head - 4 if is_new else 3)
        if cursor.at + size > end:
            raise MalformedContentError("a message ends beyond its header", cursor.at)
        yield HeaderMessage(kind, cursor.at, size, bool(bits & 2))
        cursor.skip(size)


def symbols(window: PagedSource, layout: AddressLayout, tree: int, heap: int) -> Iterator[tuple[str, int]]:
    """Yield names and addresses of a group in older files, a tree of tables.

    Raises:
        MalformedContentError: it is not such a tree.
        LimitError: there are more nodes than are read.
    """
    todo, done = [tree], set()
    while todo:
        at = todo.pop()
        if at in done:
            continue
        done.add(at)
        if len(done) > _NODES:
            raise LimitError(f"more than {_NODES} nodes are in a group's tree")
        cursor = Cursor(window, at)
        magic = cursor.take(4)
        if magic == b"SNOD":
            cursor.skip(2)
            for _ in range(cursor.number(2)):
                name, address = layout.length(cursor) if layout.lengths == layout.offsets else cursor.number(
                    layout.offsets
                ), layout.address(cursor)  # fmt: skip
                kind = cursor.number(4)
                cursor.skip(20)
                if kind != 2:
                    yield heap_text(window, layout, heap, name), address
        elif magic == b"TREE":
            cursor.skip(2)
            used = cursor.number(2)
            cursor.skip(2 * layout.offsets)
            for _ in range(used):
                cursor.skip(layout.lengths)
                todo.append(layout.address(cursor))
        else:
            raise MalformedContentError("not a node of a group's tree", at)


def heap_text(window: PagedSource, layout: AddressLayout, heap: int, offset: int) -> str:
    """Return a text of a local heap.

    Raises:
        MalformedContentError: it is not such a heap.
    """
    cursor = Cursor(window, heap)
    if cursor.take(4) != b"HEAP":
        raise MalformedContentError("not a local heap", heap)
    cursor.skip(4 + 2 * layout.lengths)
    place = layout.address(cursor) + offset
    if place >= window.size:
        raise MalformedContentError("a name beyond the end", heap)
    return window.peek(place, min(1024, window.size - place)).split(b"\0")[0].decode(errors="backslashreplace")


def _global(window: PagedSource, layout: AddressLayout, at: int, index: int) -> tuple[int, int]:
    """Return position and size of an object in the global heap's collection ``at``."""
    cursor = Cursor(window, at)
    if cursor.take(4) != b"GCOL":
        raise MalformedContentError("not a collection of a global heap", at)
    cursor.skip(4)
    end = at + layout.length(cursor)
    count = 0
    while cursor.at + 8 + layout.lengths <= end and (count := count + 1) < _NODES:
        number = cursor.number(2)
        cursor.skip(6)
        size = layout.length(cursor)
        if number == index:
            return cursor.at, size
        if number == 0:
            break
        cursor.skip((size + 7) // 8 * 8)
    raise MalformedContentError(f"no object {index} in a global heap", at)


def strings(window: PagedSource, layout: AddressLayout, value: Hdf5Attribute) -> Iterator[tuple[int, int]]:
    """Yield positions and sizes of an attribute's texts; nothing for numbers.

    Raises:
        MalformedContentError: a text is missing.
        LimitError: there are more than are read.
    """
    if not value.text:
        return
    if value.count > _STRINGS:
        raise LimitError(f"an attribute of more than {_STRINGS} texts")
    for place in range(value.count):
        if not value.variable:
            yield value.at + place * value.width, value.width
            continue
        cursor = Cursor(window, value.at + place * (8 + layout.offsets))
        length, heap, index = cursor.number(4), layout.address(cursor), cursor.number(4)
        if length and index:
            at, size = _global(window, layout, heap, index)
            yield at, min(size, length)


def virtual_sources(window: PagedSource, layout: AddressLayout, at: int) -> set[str]:
    """Return the source files of a virtual dataset; ``.`` is this file.

    Raises:
        MalformedContentError: the list of sources is missing.
    """
    cursor = Cursor(window, at)
    heap, index = layout.address(cursor), cursor.number(4)
    if heap == layout.undefined:
        return set()
    place, size = _global(window, layout, heap, index)
    content = window.read(place, min(size, 2**20))
    version = content[:1]
    rest = content[1 + layout.lengths :]
    if version != b"\0":
        return {"?"}
    return {rest.split(b"\0")[0].decode(errors="backslashreplace")}
