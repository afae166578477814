"""HDF5: every reachable object, its header, and the texts in its attributes (Keras's model).

Spec: HDF5 File Format Specification 3.0. The data of datasets is not read: only attributes, and what names other files,
other code, or needs more memory than the file has.
"""

from __future__ import annotations

from dataclasses import field

from buildkit.findings import Rule, Severity
from buildkit.lazy_dataclass import dataclass
from buildkit.scan.context import Declared, ScanContext
from buildkit.scan.formats import hdf5messages as messages
from buildkit.scan.formats import hdf5store as store
from buildkit.scan.formats.cursor import Cursor, MalformedContentError, PagedSource, quote
from buildkit.scan.formats.hdf5heap import find_messages
from buildkit.scan.formats.hdf5store import AddressLayout
from buildkit.scan.formats.jsontext import check_text
from buildkit.scan.formats.polyglot import check_trailing, check_zip
from buildkit.scan.limits import LimitError
from buildkit.scan.pickle.net import find_calls
from buildkit.scan.pickle.recognise import is_pickle
from buildkit.scan.source import BytesSource, RangeSource, ScanSource

OTHER_FILE = Rule(
    id="hdf5-other-file",
    title="HDF5 content in another file",
    severity=Severity.HIGH,
    why="External links, external storage and virtual datasets read any file of the host as if it were weights.",
    advice="Do not load the file; ask for one that contains its weights.",
    references=("CVE-2026-1669",),
)
FILTER = Rule(
    id="hdf5-filter",
    title="HDF5 data with an unusual filter",
    severity=Severity.LOW,
    why="To read the data, the library loads a plug-in by the filter's number.",
    advice="Write the file again without it, or make sure that you know the plug-in.",
)
USER_BLOCK = Rule(
    id="hdf5-user-block",
    title="Bytes before the HDF5 content",
    severity=Severity.MEDIUM,
    why="Another program reads, and may run, what the file begins with.",
    advice="Inspect the first bytes; write the file again without them.",
)
SHAPE = Rule(
    id="hdf5-shape-bomb",
    title="An HDF5 dataset that is far larger than its file",
    severity=Severity.MEDIUM,
    why="A small file makes its reader allocate gigabytes of memory.",
    advice="Do not load the file.",
    references=("CVE-2026-0897",),
)
OBJECTS = Rule(
    id="hdf5-pickled-objects",
    title="An HDF5 dataset of pickled objects",
    severity=Severity.MEDIUM,
    why="pandas and PyTables unpickle its rows when they are read, which runs any code in them.",
    advice="Write the table again with columns of numbers and texts.",
    references=("https://www.pytables.org/usersguide/libref/declarative_classes.html#tables.ObjectAtom",),
)
MAGIC = b"\x89HDF\r\n\x1a\n"
_USUAL = frozenset({1, 2, 3, 4, 5, 6, 32000, 32001, 32004, 32008, 32013, 32015, 32026})
_OBJECTS = 200_000
_PLACES = 200_000
_BOMB = 4 * 2**30


def _find_start(source: ScanSource) -> int | None:
    """Return the offset of the superblock: at the beginning, or at 512 and its doubles."""
    at = 0
    while at + 8 <= source.size and at < 2**40:
        if source.read(at, 8) == MAGIC:
            return at
        at = max(512, at * 2)
    return None


def recognise(head: bytes, source: ScanSource) -> bool:
    """Recognise the signature, at one of the offsets at which readers look for it."""
    return head.startswith(MAGIC) or (source.size > 512 + 8 and _find_start(source) is not None)


@dataclass(slots=True)
class _Hdf5Walk:
    context: ScanContext
    window: PagedSource
    layout: AddressLayout
    seen: set[int] = field(default_factory=set)
    todo: list[tuple[int, str]] = field(default_factory=list)


def scan(context: ScanContext, source: ScanSource) -> None:
    """Walk from the root group to every object.

    Raises:
        MalformedContentError: the superblock or the root cannot be read.
        LimitError: there are more objects than are followed.
    """
    start = _find_start(source) or 0
    if start:
        _user_block(context, source, start)
    window = PagedSource(RangeSource(source, start, source.size - start))
    layout, root, end = store.parse_superblock(window)
    walk = _Hdf5Walk(context, window, layout, todo=[(root, "/")])
    while walk.todo:
        address, name = walk.todo.pop()
        if address in walk.seen:
            continue
        walk.seen.add(address)
        if len(walk.seen) > _OBJECTS:
            raise LimitError(f"more than {_OBJECTS} objects are in it")
        try:
            _object(walk, address, name)
        except MalformedContentError as error:
            context.gap(f"malformed HDF5 object {quote(name)}: {error}", offset=error.offset)
    check_zip(context, source)
    if start <= end <= source.size:
        check_trailing(context, source, start + end, padding=4096)


def _user_block(context: ScanContext, source: ScanSource, start: int) -> None:
    head = source.read(0, min(start, 65536))
    if head.strip(b"\0"):
        what = "a MATLAB header" if head.startswith(b"MATLAB") else quote(head[:40])
        severity = Severity.NOTE if head.startswith(b"MATLAB") else None
        context.find(USER_BLOCK, f"{start} bytes precede it: {what}", offset=0, severity=severity)
        if not head.startswith(b"MATLAB"):
            context.descend("bytes before the content", BytesSource(head.rstrip(b"\0")))


def _object(walk: _Hdf5Walk, address: int, name: str) -> None:
    dims: list[int] | None = None
    width = stored = None
    for message in store.messages(walk.window, walk.layout, address):
        cursor, kind = Cursor(walk.window, message.at), message.kind
        if message.shared and kind in (0x05, 0x0B, 0x0C):
            walk.context.gap(f"a header message of {quote(name)} is shared and not followed", offset=message.at)
        elif message.shared:
            continue
        elif kind == 0x01:
            dims = messages.parse_dims(cursor, walk.layout)
        elif kind == 0x03:
            width = messages.parse_width(cursor)
        elif kind == 0x08:
            stored = _layout(walk, cursor, name)
        elif kind in _HANDLERS:
            _HANDLERS[kind](walk, cursor, name)
    if dims and width and stored is not None:
        _check_shape(walk, name, dims, (width, stored))


def _check_shape(walk: _Hdf5Walk, name: str, dims: list[int], sizes: tuple[int, int]) -> None:
    need = sizes[0]
    for dim in dims:
        need *= dim
    if need > _BOMB and need > 1000 * walk.window.size:
        walk.context.find(
            SHAPE, f"{quote(name)} of shape {dims[:8]} would need {need} bytes, the file has {walk.window.size}"
        )


def _layout(walk: _Hdf5Walk, cursor: Cursor, name: str) -> int | None:
    kind, stored = messages.parse_layout(cursor, walk.layout)
    if kind == 3:
        sources = store.virtual_sources(walk.window, walk.layout, stored)
        if sources != {"."}:
            listed = ", ".join(quote(file) for file in sorted(sources)[:4]) or "other files"
            walk.context.find(OTHER_FILE, f"{quote(name)} is a virtual dataset of {listed}", offset=cursor.at)
        return None
    return 0 if kind == 2 else stored


def _external_storage(walk: _Hdf5Walk, cursor: Cursor, name: str) -> None:
    files = messages.parse_external_files(cursor, walk.layout)
    listed = ", ".join(quote(file) for file in files[:4])
    walk.context.find(OTHER_FILE, f"{quote(name)} stores its data in {listed or 'another file'}", offset=cursor.at)


def _symbols(walk: _Hdf5Walk, cursor: Cursor, name: str) -> None:
    tree, heap = walk.layout.address(cursor), walk.layout.address(cursor)
    for child, address in store.symbols(walk.window, walk.layout, tree, heap):
        _enqueue(walk, address, name, child)


def _link(walk: _Hdf5Walk, cursor: Cursor, name: str) -> None:
    link = messages.parse_link(cursor, walk.layout)
    if link.file is not None:
        what = f"{quote(name + link.name)} is a link to the file {quote(link.file)}"
        walk.context.find(OTHER_FILE, what, offset=cursor.at)
    elif link.address is not None:
        _enqueue(walk, link.address, name, link.name)


def _enqueue(walk: _Hdf5Walk, address: int, parent: str, child: str) -> None:
    if len(walk.todo) > _PLACES:
        raise LimitError(f"more than {_PLACES} links are pending")
    if address not in walk.seen:
        walk.todo.append((address, f"{parent}{child}/"[:1000]))


def _link_info(walk: _Hdf5Walk, cursor: Cursor, name: str) -> None:
    place = messages.parse_info(cursor, walk.layout, index=8)
    if place is not None:
        for at in find_messages(walk.window, walk.layout, *place):
            _link(walk, Cursor(walk.window, at), name)


def _attribute_info(walk: _Hdf5Walk, cursor: Cursor, name: str) -> None:
    place = messages.parse_info(cursor, walk.layout, index=2)
    if place is not None:
        for at in find_messages(walk.window, walk.layout, *place):
            _attribute(walk, Cursor(walk.window, at), name)


def _attribute(walk: _Hdf5Walk, cursor: Cursor, name: str) -> None:
    at = cursor.at
    found = messages.parse_attribute(cursor, walk.layout)
    if found is None:
        walk.context.gap(f"an attribute of {quote(name)} has a named type, which is not followed", offset=at)
        return
    most = walk.context.budget.limits.json + 1
    for place, size in store.strings(walk.window, walk.layout, found):
        content = walk.window.read(place, min(size, most)).strip(b"\0 ")
        check_text(walk.context, content, base=place)
        _check_pickle(walk, name, found.name, content)


def _check_pickle(walk: _Hdf5Walk, name: str, key: str, content: bytes) -> None:
    """Check what PyTables, and so pandas, unpickles: attributes, and rows of datasets marked by an attribute."""
    if key == "PSEUDOATOM" and content == b"object":
        walk.context.find(OBJECTS, f"{quote(name)} holds pickled objects")
    elif content[:1] == b"\x80" or content.endswith(b"."):
        source = BytesSource(content)
        if is_pickle(source) or find_calls(source):
            walk.context.descend(f"{name}{key}", source, Declared.PICKLE_STREAM)


def _filters(walk: _Hdf5Walk, cursor: Cursor, name: str) -> None:
    for number in messages.parse_filters(cursor):
        if number not in _USUAL:
            walk.context.find(FILTER, f"{quote(name)} is stored through the filter {number}", offset=cursor.at)


_HANDLERS = {
    0x02: _link_info,
    0x06: _link,
    0x07: _external_storage,
    0x0B: _filters,
    0x0C: _attribute,
    0x11: _symbols,
    0x15: _attribute_info,
}
