"""Parse header messages of HDF5 objects. Spec: HDF5 File Format Specification 3.0, IV.A.2."""

from __future__ import annotations

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.formats.cursor import Cursor, MalformedContentError
from buildkit.scan.formats.hdf5store import AddressLayout, Hdf5Attribute, heap_text

_NAME = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdf5Link:
    """A name in a group: an object's address, another file, or (both None) a path in this file."""

    name: str
    address: int | None = None
    file: str | None = None


def parse_dims(cursor: Cursor, layout: AddressLayout) -> list[int]:
    """Return the dimensions of a dataspace; none for a scalar.

    Raises:
        MalformedContentError: it is not a dataspace.
    """
    version, rank = cursor.number(1), cursor.number(1)
    if version not in (1, 2) or rank > 32:
        raise MalformedContentError(f"a dataspace of version {version} and rank {rank}", cursor.at)
    cursor.skip(6 if version == 1 else 1)
    if version == 2 and cursor.number(1) == 2:
        return [0]  # null: no element at all
    return [layout.length(cursor) for _ in range(rank)]


def parse_width(cursor: Cursor) -> int:
    """Return the bytes of one element of a datatype.

    Raises:
        MalformedContentError: it is not a datatype.
    """
    cursor.skip(4)
    return cursor.number(4)


def parse_layout(cursor: Cursor, layout: AddressLayout) -> tuple[int, int]:
    """Return a layout's class (0 compact, 1 contiguous, 2 chunked, 3 virtual), and the size or the heap.

    Raises:
        MalformedContentError: the layout is unknown.
    """
    version = cursor.number(1)
    if version in (1, 2):
        rank, kind = cursor.number(1), cursor.number(1)
        if rank > 33:
            raise MalformedContentError(f"a layout of rank {rank}", cursor.at)
        return kind, 0
    kind = cursor.number(1)
    if version not in (3, 4, 5) or kind > 3:
        raise MalformedContentError(f"a layout of version {version} and class {kind}", cursor.at)
    if kind == 0:
        return kind, cursor.number(2)
    if kind == 1:
        layout.address(cursor)
        return kind, layout.length(cursor)
    return kind, cursor.at if kind == 3 else 0


def parse_external_files(cursor: Cursor, layout: AddressLayout) -> list[str]:
    """Return the files in which a dataset stores its data.

    Raises:
        MalformedContentError: it is not such a list.
    """
    cursor.skip(6)
    used, heap = cursor.number(2), layout.address(cursor)
    names = []
    for _ in range(min(used, 64)):
        names.append(heap_text(cursor.window, layout, heap, layout.length(cursor)))
        cursor.skip(2 * layout.lengths)
    return names


def parse_link(cursor: Cursor, layout: AddressLayout) -> Hdf5Link:
    """Return a link of the newer kind of group.

    Raises:
        MalformedContentError: it is not a link.
    """
    version, flags = cursor.number(1), cursor.number(1)
    if version != 1:
        raise MalformedContentError(f"a link of version {version}", cursor.at)
    kind = cursor.number(1) if flags & 8 else 0
    cursor.skip((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    length = cursor.number(1 << (flags & 3))
    if length > _NAME:
        raise MalformedContentError(f"a link's name of {length} bytes", cursor.at)
    name = cursor.take(length).decode(errors="backslashreplace")
    if kind == 0:
        return Hdf5Link(name=name, address=layout.address(cursor))
    value = cursor.take(cursor.number(2))
    if kind == 1:
        return Hdf5Link(name=name)
    return Hdf5Link(name=name, file=value[1:].split(b"\0")[0].decode(errors="backslashreplace"))


def parse_info(cursor: Cursor, layout: AddressLayout, *, index: int) -> tuple[int, int] | None:
    """Return the fractal heap of a group's links or an object's attributes, and its tree; None if there is no heap.

    Raises:
        MalformedContentError: it is not such a message.
    """
    cursor.skip(1)
    if cursor.number(1) & 1:
        cursor.skip(index)
    heap = layout.address(cursor)
    return None if heap == layout.undefined else (heap, layout.address(cursor))


def parse_attribute(cursor: Cursor, layout: AddressLayout) -> Hdf5Attribute | None:
    """Return an attribute's position and type; None if its datatype is shared.

    Raises:
        MalformedContentError: it is not an attribute.
    """
    version, flags = cursor.number(1), cursor.number(1)
    sizes = [cursor.number(2) for _ in range(3)]
    if version not in (1, 2, 3):
        raise MalformedContentError(f"an attribute of version {version}", cursor.at)
    cursor.skip(1 if version == 3 else 0)
    if version > 1 and flags & 3:
        return None
    places = []
    for size in sizes:
        places.append(cursor.at)
        cursor.skip((size + 7) // 8 * 8 if version == 1 else size)
    datatype = Cursor(cursor.window, places[1])
    kind, bits = datatype.number(1) & 15, datatype.number(3)
    width = datatype.number(4)
    count = 1
    for dim in parse_dims(Cursor(cursor.window, places[2]), layout) if sizes[2] else []:
        count *= dim
    name = cursor.window.read(places[0], min(sizes[0], _NAME)).split(b"\0")[0].decode(errors="backslashreplace")
    text = kind == 3 or (kind == 9 and bits & 15 == 1)
    return Hdf5Attribute(name=name, at=cursor.at, count=count, width=width, text=text, variable=kind == 9)


def parse_filters(cursor: Cursor) -> list[int]:
    """Return the numbers of a pipeline's filters.

    Raises:
        MalformedContentError: it is not a pipeline.
    """
    version, count = cursor.number(1), cursor.number(1)
    if version not in (1, 2) or count > 32:
        raise MalformedContentError(f"a pipeline of version {version} with {count} filters", cursor.at)
    cursor.skip(6 if version == 1 else 0)
    numbers = []
    for _ in range(count):
        number = cursor.number(2)
        length = cursor.number(2) if version == 1 or number >= 256 else 0
        cursor.skip(2)
        values = cursor.number(2)
        cursor.skip((length + 7) // 8 * 8 if version == 1 else length)
        cursor.skip(4 * values + (4 if version == 1 and values % 2 else 0))
        numbers.append(number)
    return numbers
