"""The protocol buffers' wire format, walked in place: no schema is compiled, and no library that loads models is used.

Spec: protobuf.dev/programming-guides/encoding. A group is walked as if its fields were in the enclosing message, which
shows more than a decoder would see, never less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from buildkit.scan.formats.cursor import MalformedContentError, PagedSource
from buildkit.scan.limits import LimitError
from buildkit.scan.source import ScanSource

VARINT, FIXED64, BYTES, OPEN, CLOSE, FIXED32 = range(6)


class ByteSpan(NamedTuple):
    """The bytes of a message or a string, from ``start`` up to ``end``."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.end - self.start


class ProtoField(NamedTuple):
    """One field: ``value`` of a number (0 for bytes), ``span`` of its bytes (empty for a varint)."""

    number: int
    wire: int
    value: int
    span: ByteSpan


class ProtoReader:
    """A source as messages; at most ``most`` fields are read in all."""

    __slots__ = ("left", "most", "window")

    def __init__(self, source: ScanSource, most: int) -> None:
        self.window = PagedSource(source)
        self.most = self.left = most

    @property
    def whole(self) -> ByteSpan:
        """The span of the whole source."""
        return ByteSpan(0, self.window.size)

    def fields(self, span: ByteSpan) -> Iterator[ProtoField]:
        """Yield the fields of the message in ``span``.

        Raises:
            MalformedContentError: it is not a message.
            LimitError: there are more than ``most`` fields.
        """
        at = span.start
        while at < span.end:
            self.left -= 1
            if self.left < 0:
                raise LimitError(f"more than {self.most} fields are in it")
            head = self.window.peek(at, min(24, span.end - at))
            tag, used = _varint(head, 0, at)
            wire, number = tag & 7, tag >> 3
            if not 0 < number < 2**29:
                raise MalformedContentError("a field without a valid number", at)
            value, found = _value(head, used, wire, at)
            at = found.end
            if at > span.end:
                raise MalformedContentError("a field ends beyond its message", found.start)
            yield ProtoField(number, wire, value, found)

    def text(self, span: ByteSpan, most: int = 4096) -> str:
        """Return a string, at most ``most`` bytes of it; invalid UTF-8 is escaped.

        Raises:
            MalformedContentError: the source shrank.
        """
        return self.window.read(span.start, min(span.size, most)).decode(errors="backslashreplace")


def _varint(head: bytes, at: int, base: int) -> tuple[int, int]:
    value = shift = 0
    for position in range(at, min(at + 10, len(head))):
        byte = head[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), position + 1
        shift += 7
    raise MalformedContentError("an unterminated number", base)


def _value(head: bytes, used: int, wire: int, base: int) -> tuple[int, ByteSpan]:
    if wire == VARINT:
        value, used = _varint(head, used, base)
        return value, ByteSpan(base + used, base + used)
    if wire == BYTES:
        length, used = _varint(head, used, base)
        return 0, ByteSpan(base + used, base + used + length)
    if wire in (FIXED32, FIXED64):
        width = 4 if wire == FIXED32 else 8
        return int.from_bytes(head[used : used + width], "little"), ByteSpan(base + used, base + used + width)
    if wire in (OPEN, CLOSE):
        return 0, ByteSpan(base + used, base + used)
    raise MalformedContentError(f"a field of unknown wire type {wire}", base)


def first_fields(source: ScanSource, count: int, span: ByteSpan | None = None) -> list[ProtoField] | None:
    """Return the first ``count`` fields, or None if the bytes are not a message; for recognition."""
    proto = ProtoReader(source, count)
    found: list[ProtoField] = []
    try:
        for field in proto.fields(span or proto.whole):
            found.append(field)  # noqa: PERF402 -- fields before a limit count
    except MalformedContentError:
        return None
    except LimitError:
        pass
    return found


def signed(value: int) -> int:
    """Return a varint as int64."""
    return value - 2**64 if value >= 2**63 else value
