"""Plain data that accompanies weights: images, audio, tables, vocabularies, and models that are only numbers."""

from __future__ import annotations

import base64

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import Cursor, MalformedContentError, PagedSource
from buildkit.scan.formats.polyglot import check_trailing, check_zip
from buildkit.scan.formats.protobuf import BYTES, FIXED32, VARINT, ProtoReader, first_fields
from buildkit.scan.source import ScanSource

ARROW = Rule(
    id="arrow-python-type",
    title="An Arrow table with a pickled type",
    severity=Severity.CRITICAL,
    why="pyarrow before 14.0.1 unpickles the type of such a column when the file is opened.",
    advice="Do not open the file; write the table again without the extension type.",
    references=("CVE-2023-47248",),
)
_TYPE = b"arrow.py_extension_type"
_FOOTER = 64 * 2**20


def recognise_png(head: bytes, source: ScanSource) -> bool:
    """Recognise the signature."""
    del source
    return head.startswith(b"\x89PNG\r\n\x1a\n")


def scan_png(context: ScanContext, source: ScanSource) -> None:
    """Walk the chunks to the last one.

    Raises:
        MalformedContentError: a chunk ends beyond the file.
    """
    cursor = Cursor(PagedSource(source), 8, big=True)
    kind = b""
    while kind != b"IEND":
        length, kind = cursor.number(4), cursor.take(4)
        cursor.skip(length + 4)
    check_trailing(context, source, cursor.at)


def recognise_gif(head: bytes, source: ScanSource) -> bool:
    """Recognise the signature."""
    del source
    return head.startswith((b"GIF87a", b"GIF89a"))


def scan_gif(context: ScanContext, source: ScanSource) -> None:
    """Walk the blocks to the last one.

    Raises:
        MalformedContentError: a block is of unknown kind, or ends beyond the file.
    """
    window = PagedSource(source)
    cursor, flags = Cursor(window, 13), window.number(10, 1)
    cursor.skip(3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    while (kind := cursor.number(1)) != 0x3B:
        if kind == 0x21:
            cursor.skip(1)
        elif kind == 0x2C:
            cursor.skip(8)
            flags = cursor.number(1)
            cursor.skip((3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0) + 1)
        else:
            raise MalformedContentError(f"a block of unknown kind {kind:#x}", cursor.at - 1)
        while size := cursor.number(1):
            cursor.skip(size)
    check_trailing(context, source, cursor.at)


def recognise_jpeg(head: bytes, source: ScanSource) -> bool:
    """Recognise a start of image and a marker."""
    del source
    return head.startswith(b"\xff\xd8\xff")


def scan_jpeg(context: ScanContext, source: ScanSource) -> None:
    """Walk the segments, and the coded data to the end of the image.

    Raises:
        MalformedContentError: a segment ends beyond the file.
    """
    window = PagedSource(source)
    cursor = Cursor(window, 2, big=True)
    while True:
        if cursor.number(1) != 0xFF:
            raise MalformedContentError("no marker where one is expected", cursor.at - 1)
        while (marker := cursor.number(1)) == 0xFF:
            pass
        if marker == 0xD9:
            break
        if marker in (0x01, *range(0xD0, 0xD9)):
            continue
        cursor.skip(cursor.number(2) - 2)
        if marker == 0xDA:
            cursor.at = _find_coded_end(window, cursor.at)
    check_trailing(context, source, cursor.at)


def _find_coded_end(window: PagedSource, at: int) -> int:
    while at < window.size:
        page = window.peek(at, 65536)
        mark = page.find(b"\xff")
        while 0 <= mark < len(page) - 1:
            if page[mark + 1] != 0 and not 0xD0 <= page[mark + 1] <= 0xD7:
                return at + mark
            mark = page.find(b"\xff", mark + 1)
        if len(page) < 2 or at + len(page) >= window.size:
            break
        at += len(page) - 1
    raise MalformedContentError("the image's data does not end", at)


def recognise_riff(head: bytes, source: ScanSource) -> bool:
    """Recognise RIFF with an image (WebP) or audio (WAVE)."""
    del source
    return head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE")


def scan_riff(context: ScanContext, source: ScanSource) -> None:
    """Compare the declared size with the file's."""
    size = int.from_bytes(source.read(4, 4), "little") + 8
    if size > source.size:
        context.gap(f"{size} bytes are declared in a file of {source.size}")
    check_trailing(context, source, size, padding=1)


def recognise_parquet(head: bytes, source: ScanSource) -> bool:
    """Recognise the magic at both ends."""
    return head[:4] == b"PAR1" and source.size >= 12 and source.read(source.size - 4, 4) == b"PAR1"


def recognise_arrow(head: bytes, source: ScanSource) -> bool:
    """Recognise Arrow's file format (Feather), or a stream's first message."""
    return head.startswith((b"ARROW1\0\0", b"FEA1")) or (
        head[:4] == b"\xff\xff\xff\xff" and 0 < int.from_bytes(head[4:8], "little") < min(source.size, _FOOTER)
    )


def scan_parquet(context: ScanContext, source: ScanSource) -> None:
    """Check the footer for a type that is unpickled.

    Raises:
        MalformedContentError: the footer is missing.
    """
    length = int.from_bytes(source.read(source.size - 8, 4), "little")
    if length > min(_FOOTER, source.size - 12):
        raise MalformedContentError(f"a footer of {length} bytes", source.size - 8)
    _check_arrow(context, source.read(source.size - 8 - length, length))
    check_zip(context, source)


def scan_arrow(context: ScanContext, source: ScanSource) -> None:
    """Check the schema, at the beginning and at the end, for a type that is unpickled."""
    _check_arrow(context, source.read(0, _FOOTER))
    if source.size > _FOOTER:
        _check_arrow(context, source.read(source.size - _FOOTER, _FOOTER))
    check_zip(context, source)


def _check_arrow(context: ScanContext, content: bytes) -> None:
    coded = (base64.b64encode(bytes(shift) + _TYPE)[4 if shift else 0 : -4] for shift in range(3))
    if _TYPE in content or any(item in content for item in coded):
        context.find(ARROW, "a column is of the type arrow.py_extension_type")


def recognise_sentencepiece(head: bytes, source: ScanSource) -> bool:
    """Recognise pieces: a text, a score, a kind."""
    if head[:1] != b"\x0a":
        return False
    fields = first_fields(source, 8)
    if not fields or any(item.number != 1 or item.wire != BYTES or item.span.size > 1000 for item in fields[:2]):
        return False
    inner = first_fields(source, 4, fields[0].span)
    return bool(inner) and [(item.number, item.wire) for item in inner or ()][:2] == [(1, BYTES), (2, FIXED32)]


def scan_sentencepiece(context: ScanContext, source: ScanSource) -> None:
    """Walk every piece; report foreign fields.

    Raises:
        MalformedContentError: it is not a SentencePiece model.
        LimitError: there are more fields than are read.
    """
    proto = ProtoReader(source, context.budget.limits.fields)
    wires = {1: BYTES, 2: FIXED32, 3: VARINT}
    for item in proto.fields(proto.whole):
        if item.number not in range(1, 6) or item.wire != BYTES:
            context.gap(f"the field {item.number} is not part of SentencePiece", offset=item.span.start)
            return
        if item.number == 1 and any(wires.get(inner.number) != inner.wire for inner in proto.fields(item.span)):
            context.gap("a piece has fields that are not part of SentencePiece", offset=item.span.start)
            return


def recognise_catboost(head: bytes, source: ScanSource) -> bool:
    """Recognise the magic and the size of the core."""
    return head[:4] == b"CBM1" and source.size >= 8


def scan_catboost(context: ScanContext, source: ScanSource) -> None:
    """Compare the declared size with the file's; trees are numbers."""
    size = int.from_bytes(source.read(4, 4), "little") + 8
    if size > source.size:
        context.gap(f"{size} bytes are declared in a file of {source.size}")
    check_zip(context, source)


def recognise_checkpoint_index(head: bytes, source: ScanSource) -> bool:
    """Recognise TensorFlow's `variables.index`, a LevelDB table, by its last bytes."""
    del head
    return source.size >= 48 and source.read(source.size - 8, 8) == bytes.fromhex("57fb808b247547db")


def scan_checkpoint_index(context: ScanContext, source: ScanSource) -> None:
    """Check for a zip archive; the index itself names tensors and their positions, and runs nothing."""
    check_zip(context, source)


_SEALED = (
    (
        0,
        (b"lmgg", b"tjgg", b"fmgg", b"algg"),
        "an old GGML file: it has no description of itself, so it cannot be read",
    ),
)


def find_sealed(head: bytes) -> str | None:
    """Return what a known but opaque format is, which only its vendor can read; None for others."""
    return next((description for at, magics, description in _SEALED if head[at : at + 8].startswith(magics)), None)


def recognise_sealed(head: bytes, source: ScanSource) -> bool:
    """Return whether content is of an opaque format."""
    del source
    return find_sealed(head) is not None


def scan_sealed(context: ScanContext, source: ScanSource) -> None:
    """Report that it is not scanned, and why."""
    context.gap(find_sealed(source.read(0, 64)) or "")
