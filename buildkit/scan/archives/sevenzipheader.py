"""The header of 7z archives: numbers, properties and lists, every count checked against the bytes that are there."""

from __future__ import annotations

from dataclasses import dataclass, field

END, HEADER, ENCODED = 0, 1, 23
ARCHIVE_PROPERTIES, MAIN_STREAMS, FILES = 2, 4, 5
PACK, FOLDERS, SUBSTREAMS = 6, 7, 8
SIZE, CRC, FOLDER, UNPACK_SIZE, COUNT = 9, 10, 11, 12, 13
EMPTY, NAMES = 14, 17
MOST = 32  # coders of a folder


class HeaderError(Exception):
    """The header is malformed, or says what is not read here."""


@dataclass(frozen=True, slots=True)
class Coder:
    """A method and its properties."""

    method: bytes
    properties: bytes


@dataclass(slots=True)
class Folder:
    """Coders in the order in which they were applied first to last when unpacking ends; ``size`` comes out."""

    coders: list[Coder]
    streams: int
    outputs: int
    bound: list[int]
    size: int = 0
    checked: bool = False


@dataclass(slots=True)
class Files:
    """Names of members, and which have no content."""

    names: list[str] = field(default_factory=list)
    empty: list[bool] = field(default_factory=list)


@dataclass(slots=True)
class Header:
    """Packed streams from ``start`` behind the signature; ``first[i]`` is the first one of folder ``i``."""

    start: int = 0
    packed: list[int] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    files: Files | None = None


@dataclass(slots=True)
class Bytes:
    """A header that is read from front to back."""

    content: bytes
    at: int = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > len(self.content) - self.at:
            raise HeaderError("its header is cut off")
        self.at += count
        return self.content[self.at - count : self.at]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """A number of one to nine bytes."""
        first, mask, value = self.byte(), 0x80, 0
        for index in range(8):
            if not first & mask:
                return value | (first & (mask - 1)) << (8 * index)
            value |= self.byte() << (8 * index)
            mask >>= 1
        return value

    def count(self) -> int:
        """A number of things of which each has at least a bit in the header."""
        value = self.number()
        if value > len(self.content) * 8:
            raise HeaderError("its header counts more than it holds")
        return value

    def bits(self, count: int) -> list[bool]:
        """Bits, the highest of each byte first."""
        raw = self.take((count + 7) // 8)
        return [bool(raw[index // 8] & 0x80 >> index % 8) for index in range(count)]

    def digests(self, count: int) -> list[bool]:
        """Pass checksums; gives which of ``count`` things have one."""
        known = [True] * count if self.byte() else self.bits(count)
        self.take(4 * sum(known))
        return known


def parse_header(content: bytes) -> Header:
    """A header, or the description of where a packed one lies (``files`` is None then). Raises HeaderError."""
    data, header = Bytes(content), Header()
    kind = data.byte()
    if kind == ENCODED:
        streams(data, header)
        return header
    if kind != HEADER:
        raise HeaderError("its header is of an unknown kind")
    header.files = Files()
    while (kind := data.byte()) != END:
        if kind == MAIN_STREAMS:
            streams(data, header)
        elif kind == FILES:
            files(data, header.files)
        elif kind == ARCHIVE_PROPERTIES:
            while data.byte():
                data.take(data.number())
        else:
            raise HeaderError(f"its header has an unknown part {kind}")
    return header


def streams(data: Bytes, header: Header) -> None:
    """Where packed streams lie, how they unpack, and what is in them."""
    while (kind := data.byte()) != END:
        if kind == PACK:
            pack(data, header)
        elif kind == FOLDERS:
            folders(data, header)
        elif kind == SUBSTREAMS:
            substreams(data, header)
        else:
            raise HeaderError(f"its streams have an unknown part {kind}")
    if not header.sizes:
        header.sizes = [[folder.size] for folder in header.folders]


def pack(data: Bytes, header: Header) -> None:
    """Sizes of the packed streams."""
    header.start, count = data.number(), data.count()
    while (kind := data.byte()) != END:
        if kind == SIZE:
            header.packed = [data.number() for _ in range(count)]
        elif kind == CRC:
            data.digests(count)
        else:
            raise HeaderError(f"its packed streams have an unknown part {kind}")


def folders(data: Bytes, header: Header) -> None:
    """Coders of each folder, and the sizes that come out."""
    if data.byte() != FOLDER:
        raise HeaderError("its folders are missing")
    count = data.count()
    if data.byte():
        raise HeaderError("its folders lie elsewhere")
    first = 0
    for _ in range(count):
        one = folder(data)
        header.folders.append(one)
        header.first.append(first)
        first += one.streams
    while (kind := data.byte()) != END:
        if kind == UNPACK_SIZE:
            for one in header.folders:
                sizes = [data.number() for _ in range(one.outputs)]
                final = [index for index in range(one.outputs) if index not in one.bound]
                one.size = sizes[final[0]] if final else 0
        elif kind == CRC:
            for one, checked in zip(header.folders, data.digests(count), strict=True):
                one.checked = checked
        else:
            raise HeaderError(f"its folders have an unknown part {kind}")


def folder(data: Bytes) -> Folder:
    """One folder; its coders are a chain, the last of which reads the file."""
    coders, inputs, outputs = [], 0, 0
    count = data.count()
    if not 0 < count <= MOST:
        raise HeaderError(f"a folder has {count} methods")
    for _ in range(count):
        flags = data.byte()
        method = data.take(flags & 15)
        ins, outs = (data.count(), data.count()) if flags & 16 else (1, 1)
        coders.append(Coder(method, data.take(data.number()) if flags & 32 else b""))
        inputs, outputs = inputs + ins, outputs + outs
    pairs = [(data.number(), data.number()) for _ in range(outputs - 1)]
    streams = inputs - len(pairs)
    if streams < 1 or inputs != outputs:
        return Folder(coders, 0 if streams < 1 else max(2, streams), outputs, [out for _, out in pairs])
    if streams > 1:
        for _ in range(streams):
            data.number()
    return Folder(ordered(coders, pairs), streams, outputs, [out for _, out in pairs])


def ordered(coders: list[Coder], pairs: list[tuple[int, int]]) -> list[Coder]:
    """Coders as the lzma module wants a chain: what gives the content first, what reads the file last."""
    feeds = dict(pairs)
    bound = set(feeds.values())
    at: int | None = next((index for index in range(len(coders)) if index not in bound), None)
    chain: list[Coder] = []
    while at is not None and at < len(coders) and len(chain) < len(coders):
        chain.append(coders[at])
        at = feeds.get(at)
    return chain


def substreams(data: Bytes, header: Header) -> None:
    """How many members each folder has, and their sizes."""
    counts = [1] * len(header.folders)
    kind = data.byte()
    if kind == COUNT:
        counts = [data.count() for _ in header.folders]
        kind = data.byte()
    sizes: list[list[int]] = []
    for one, count in zip(header.folders, counts, strict=True):
        known = [data.number() for _ in range(count - 1)] if kind == SIZE else []
        sizes.append([*known, max(0, one.size - sum(known))] if count else [])
    header.sizes = sizes
    if kind == SIZE:
        kind = data.byte()
    if kind == CRC:
        pairs = zip(header.folders, counts, strict=True)
        data.digests(sum(count for one, count in pairs if not (one.checked and count == 1)))
        kind = data.byte()
    if kind != END:
        raise HeaderError(f"its members have an unknown part {kind}")


def files(data: Bytes, found: Files) -> None:
    """Names of members."""
    count = data.count()
    found.empty = [False] * count
    while (kind := data.byte()) != END:
        part = Bytes(data.take(data.number()))
        if kind == EMPTY:
            found.empty = part.bits(count)
        elif kind == NAMES:
            if part.byte():
                raise HeaderError("its names lie elsewhere")
            text = part.content[1:].decode("utf-16-le", "replace")
            found.names = text.split("\0")[:count]
    found.names += [f"member {index}" for index in range(len(found.names), count)]
