"""The headers of zip archives as they are; no value is trusted that another header could contradict.

Follows PKWARE's APPNOTE 6.3.10: end records (4.3.16, 4.3.14, 4.3.15), directory (4.3.12), local headers (4.3.7).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.context import ScanContext
from buildkit.scan.limits import LimitError
from buildkit.scan.source import ScanSource
from buildkit.scan.windowed_reader import TruncatedError, WindowedReader

LOCAL = b"PK\x03\x04"
ENTRY = b"PK\x01\x02"
END = b"PK\x05\x06"
END64 = b"PK\x06\x06"
LOCATOR = b"PK\x06\x07"
TAIL = 22 + 65535
FULL32 = 0xFFFFFFFF
DESCRIPTOR = 8  # flag: sizes follow the content
UTF8 = 0x800
MOST = 256  # end records that are read


@dataclass(frozen=True, slots=True)
class EndRecord:
    """An end record at ``at``: offset and size of the directory, by the record."""

    at: int
    offset: int
    size: int
    count: int
    comment: int
    zip64: int | None = None

    @property
    def places(self) -> tuple[int, ...]:
        """The offsets at which readers look for the directory: the record's, or right before the records."""
        before = (self.at if self.zip64 is None else self.zip64) - self.size
        return tuple(dict.fromkeys(place for place in (before, self.offset) if place >= 0))


@dataclass(frozen=True, slots=True)
class ZipHeader:
    """The values of one header of a member; ``extra`` and ``raw`` are unparsed."""

    raw: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    length: int
    attributes: int = 0

    @property
    def name(self) -> str:
        """The name, decoded."""
        if self.flags & UTF8:
            return self.raw.decode("utf-8", "replace")
        return self.raw.decode("cp437")


def find_ends(source: ScanSource) -> list[EndRecord]:
    """Return the end records that readers use: the last one, and one whose comment ends with the file.

    Others belong to members that are archives themselves.
    """
    start = max(0, source.size - TAIL)
    tail = source.read(start, TAIL)
    ends: list[EndRecord] = []
    at = tail.rfind(END)
    for _ in range(MOST):
        if at < 0:
            break
        if len(tail) - at >= 22:
            end = read_end(source, start + at, tail[at : at + 22])
            if not ends or end.at + 22 + end.comment == source.size:
                ends.append(end)
        at = tail.rfind(END, 0, at)
    return ends


def read_end(source: ScanSource, at: int, record: bytes) -> EndRecord:
    """Return one end record, with the ZIP64 record before it, if there is one."""
    count, size, offset, comment = struct.unpack("<10xHIIH", record)
    locator = source.read(at - 20, 20) if at >= 20 else b""
    if locator[:4] == LOCATOR:
        place = int.from_bytes(locator[8:16], "little")
        for where in (place, at - 20 - 56):
            long = source.read(where, 56) if where >= 0 else b""
            if len(long) == 56 and long[:4] == END64:
                count, size, offset = struct.unpack("<32xQQQ", long)
                return EndRecord(at, offset, size, count, comment, where)
    return EndRecord(at, offset, size, count, comment)


def apply_zip64(extra: bytes, values: list[int]) -> list[int]:
    """Replace ``values`` of all ones by those of the ZIP64 extra field, in their order."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        field = extra[at + 4 : at + 4 + size]
        if kind == 1:
            where = 0
            for index, value in enumerate(values):
                if value == FULL32 and where + 8 <= len(field):
                    values[index] = int.from_bytes(field[where : where + 8], "little")
                    where += 8
            return values
        at += 4 + size
    return values


def read_local(source: ScanSource, at: int) -> tuple[ZipHeader, bool] | None:
    """Return the local header at ``at`` and whether it has its signature; None beyond the end."""
    fixed = source.read(at, 30)
    if len(fixed) < 30:
        return None
    flags, method, crc, packed, size, names, extras = struct.unpack("<6xHH4xIIIHH", fixed)
    rest = source.read(at + 30, names + extras)
    size, packed = apply_zip64(rest[names:], [size, packed])
    return ZipHeader(rest[:names], flags, method, crc, packed, size, at, 30 + names + extras), fixed[:4] == LOCAL


def read_directory(context: ScanContext, source: ScanSource, at: int, size: int) -> Iterator[ZipHeader]:
    """Yield the entries of the directory at ``at``, up to the first malformed one.

    Raises:
        LimitError: it is too large, or has too many entries.
    """
    if size > context.budget.limits.header:
        raise LimitError(f"the directory of a zip archive is larger than {context.budget.limits.header} bytes")
    reader = WindowedReader(source, at)
    try:
        while reader.offset < at + size or size == 0:
            fixed = reader.take(46)
            if fixed[:4] != ENTRY:
                if fixed[:4] != END:
                    context.gap("the directory of the zip archive is malformed", offset=reader.offset - 46)
                return
            context.budget.member()
            flags, method, crc, packed, full, names, extras, comment, attributes, offset = struct.unpack(
                "<8xHH4xIIIHHH4xII", fixed
            )
            rest = reader.take(names + extras + comment)
            full, packed, offset = apply_zip64(rest[names : names + extras], [full, packed, offset])
            length = 46 + len(rest)
            yield ZipHeader(rest[:names], flags, method, crc, packed, full, offset, length, attributes)
    except TruncatedError:
        context.gap("the directory of the zip archive is cut off", offset=at)
