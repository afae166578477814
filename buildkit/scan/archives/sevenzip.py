"""7z archives: the header's streams and folders, with the methods that Python itself can read.

After ``DOC/7zFormat.txt`` of the LZMA SDK 23. Chains of one method and simple filters are read; others (AES, PPMd,
BCJ2, Deflate64) are a gap.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.scan.archives import codecs, rules
from buildkit.scan.archives import member_names as names
from buildkit.scan.archives.sevenzipheader import Files, Header, HeaderError, parse_header
from buildkit.scan.archives.spill import Inflated, inflated
from buildkit.scan.archives.streams import Packed
from buildkit.scan.context import ScanContext
from buildkit.scan.limits import LimitError
from buildkit.scan.source import BytesSource, RangeSource, Source

MAGIC = b"7z\xbc\xaf\x27\x1c"
START = 32
FILTERS = {
    b"\x03\x03\x01\x03": lzma.FILTER_X86, b"\x03\x03\x02\x05": lzma.FILTER_POWERPC,
    b"\x03\x03\x04\x01": lzma.FILTER_IA64, b"\x03\x03\x05\x01": lzma.FILTER_ARM,
    b"\x03\x03\x07\x01": lzma.FILTER_ARMTHUMB, b"\x03\x03\x08\x05": lzma.FILTER_SPARC,
    b"\x04": lzma.FILTER_X86, b"\x05": lzma.FILTER_POWERPC, b"\x06": lzma.FILTER_IA64, b"\x07": lzma.FILTER_ARM,
    b"\x08": lzma.FILTER_ARMTHUMB, b"\x09": lzma.FILTER_SPARC,
}  # fmt: skip


@dataclass(slots=True)
class Copy:
    """Content that is stored."""

    source: Source
    end: int = 0
    why: str = ""

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces."""
        while part := self.source.read(self.end, codecs.PIECE):
            self.end += len(part)
            yield part


def recognise(head: bytes, source: Source) -> bool:
    """Whether content is a 7z archive."""
    return head.startswith(MAGIC) and source.size >= START


def scan(context: ScanContext, source: Source) -> None:
    """Scan every member.

    Raises:
        LimitError: a limit ended it.
    """
    offset = int.from_bytes(source.read(12, 8), "little")
    size = int.from_bytes(source.read(20, 8), "little")
    if START + offset + size > source.size:
        context.gap("the header of the 7z archive is missing")
        return
    try:
        header = read_header(context, RangeSource(source, START + offset, size), source)
        scan_folders(context, source, header)
    except HeaderError as error:
        context.gap(f"the 7z archive cannot be read: {error}")
    end = START + offset + size
    if end < source.size:
        context.descend(f"rest@{end}", RangeSource(source, end, source.size - end))


def read_header(context: ScanContext, packed: Source, source: Source) -> Header:
    """The header, unpacked as often as it is packed. Raises HeaderError."""
    for _ in range(4):
        if packed.size > context.budget.limits.header:
            raise LimitError(f"the header of a 7z archive is larger than {context.budget.limits.header} bytes")
        header = parse_header(packed.read(0, packed.size))
        if header.files is not None:
            return header
        if not header.folders:
            raise HeaderError("its header says nothing")
        with inflated(context.budget, open_folder(header, 0, source).chunks(), source.size) as content:
            packed = RangeSource(content.source, 0, content.source.size)
            whole = packed.read(0, min(packed.size, context.budget.limits.header + 1))
        packed = BytesSource(whole)
    raise HeaderError("its header is packed too often")


def open_folder(header: Header, index: int, source: Source) -> Packed:
    """What comes out of a folder. Raises HeaderError where its methods are not read here."""
    folder = header.folders[index]
    if folder.streams != 1 or header.first[index] >= len(header.packed):
        raise HeaderError("it joins several streams")
    place = START + header.start + sum(header.packed[: header.first[index]])
    raw = RangeSource(source, place, header.packed[header.first[index]])
    chain = [coder for coder in folder.coders if coder.method != b"\0"]
    if not chain:
        return Copy(raw)
    last = chain[-1]
    if len(chain) == 1 and last.method == b"\x04\x01\x08":
        return codecs.Stream(raw, codecs.raw_deflate)
    if len(chain) == 1 and last.method == b"\x04\x02\x02":
        return codecs.Stream(raw, codecs.bzip2)
    if len(chain) == 1 and last.method == b"\x04\xf7\x11\x01":
        return codecs.Zstd(raw)
    filters = [lzma_filter(coder.method, coder.properties) for coder in chain]
    return codecs.Stream(raw, lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters))


def lzma_filter(method: bytes, properties: bytes) -> dict[str, int]:
    """A method as the lzma module wants it. Raises HeaderError for others and for windows that are too large."""
    if method == b"\x21" and len(properties) == 1 and properties[0] <= 40:
        size = (2 | properties[0] & 1) << (properties[0] // 2 + 11) if properties[0] < 40 else 0xFFFFFFFF
        return {"id": lzma.FILTER_LZMA2, "dict_size": bounded(size)}
    if method == b"\x03\x01\x01" and len(properties) == 5 and properties[0] < 225:
        rest, lc = divmod(properties[0], 9)
        pb, lp = divmod(rest, 5)
        size = bounded(int.from_bytes(properties[1:], "little"))
        return {"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": lc, "lp": lp, "pb": pb}
    if method == b"\x03" and len(properties) == 1:
        return {"id": lzma.FILTER_DELTA, "dist": properties[0] + 1}
    if method in FILTERS:
        return {"id": FILTERS[method]}
    raise HeaderError(f"its method {method.hex()} is not read here (encrypted, or rare)")


def bounded(size: int) -> int:
    """A window that is not too large."""
    if size > codecs.MEMORY:
        raise HeaderError(f"it needs a window of {size} bytes")
    return max(size, 4096)


def scan_folders(context: ScanContext, source: Source, header: Header) -> None:
    """Scan the members of every folder."""
    files = header.files or Files()
    for name in files.names:
        if names.escapes(name):
            context.find(rules.OUTSIDE, f"names a member {name}")
    contents = iter(name for name, empty in zip(files.names, files.empty, strict=False) if not empty)
    for index, folder in enumerate(header.folders):
        sizes = header.sizes[index] if index < len(header.sizes) else [folder.size]
        members = [next(contents, f"member@{index}") for _ in sizes]
        try:
            packed = open_folder(header, index, source)
            spent = header.packed[header.first[index]]
            with inflated(context.budget, limited(packed, folder.size), spent) as content:
                scan_folder(context, packed, content, list(zip(members, sizes, strict=True)))
        except HeaderError as error:
            for name in members:
                context.gap(f"{name}: {error}")


def scan_folder(context: ScanContext, packed: Packed, content: Inflated, members: list[tuple[str, int]]) -> None:
    """Scan the members that came out of one folder."""
    short = sum(size for _, size in members) > content.source.size
    if content.why or short:
        context.gap(content.why or packed.why or "a folder of the 7z archive is cut off")
    at = 0
    for name, size in members:
        context.budget.member()
        if size:
            left = max(0, min(size, content.source.size - at))
            context.descend(name, RangeSource(content.source, at, left))
        at += size


def limited(packed: Packed, size: int) -> Iterator[bytes]:
    """What comes out, up to ``size`` bytes: raw LZMA has no end mark."""
    for chunk in packed.chunks():
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return
