"""Opcodes that push constants. Lengths come from the stream; nothing is allocated before the bytes are there."""

from __future__ import annotations

import codecs
import warnings
from functools import partial

from buildkit.scan.pickle.machine import Handler, PickleMachine
from buildkit.scan.pickle.numbers import LONGEST_LINE, read_float, read_integer
from buildkit.scan.pickle.values import KEPT_TEXT, UNKNOWN, ByteString, LongText, Value

KEPT_NUMBER = 60  # bytes of a number; longer ones are not kept


def text(machine: PickleMachine, width: int) -> None:
    """Push a UTF-8 text whose length takes ``width`` bytes."""
    size = machine.reader.number(width)
    start = machine.reader.offset
    if size > KEPT_TEXT:
        head = machine.reader.take(KEPT_TEXT)
        machine.reader.skip(size - KEPT_TEXT)
        keep_long(machine, head, start, size)
        return
    raw = machine.reader.take(size)
    value = raw.decode("utf-8", "surrogatepass") if raw.isascii() else decode_utf8(machine, raw)
    machine.stack.append(value)
    if size > 8:
        machine.watcher.constant(value, start)


def decode_utf8(machine: PickleMachine, raw: bytes) -> str:
    """Decode UTF-8 as pickle writes it; other bytes are an anomaly and are read as Latin-1."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        machine.note_anomaly("a text is not UTF-8")
        return raw.decode("latin-1")


def keep_long(machine: PickleMachine, head: bytes, start: int, size: int, *, escaped: bool = False) -> None:
    """Push a text of which only the beginning is kept; ``escaped`` if its bytes are a line with escapes."""
    value = LongText(head.decode("utf-8", "replace"), start, size, escaped)
    machine.stack.append(value)
    machine.watcher.constant(value, start)


def blob(machine: PickleMachine, width: int) -> None:
    """Push bytes, or a bytearray, whose length takes ``width`` bytes."""
    size = machine.reader.number(width)
    value = ByteString(machine.reader.offset, size)
    machine.reader.skip(size)
    machine.stack.append(value)
    if size > 1:
        machine.watcher.constant(value, value.start)


def binstring(machine: PickleMachine, width: int) -> None:
    """Push a Python 2 str: ASCII is text; what other bytes mean depends on the encoding that a loader asks for."""
    size = machine.reader.number(width)  # without a sign, as in C
    start = machine.reader.offset
    value: Value = ByteString(start, size)
    if size > KEPT_TEXT:
        machine.reader.skip(size)
    else:
        kept = machine.reader.take(size)
        value = kept.decode() if kept.isascii() else value
    if size > 1:
        machine.watcher.constant(ByteString(start, size), start)
    machine.stack.append(value)


def string(machine: PickleMachine) -> None:
    """Push a quoted string with escapes that ends with the line."""
    start = machine.reader.offset
    raw, _ = machine.reader.line(LONGEST_LINE)
    if len(raw) >= LONGEST_LINE:
        keep_long(machine, raw[1:KEPT_TEXT], start + 1, machine.reader.offset - start - 2, escaped=True)
        return
    if len(raw) < 2 or raw[:1] not in (b"'", b'"') or raw[-1:] != raw[:1]:
        machine.note_anomaly("a string has no quotes")
    try:
        value = (unescape(raw[1:-1]) if b"\\" in raw else raw[1:-1]).decode("latin-1")
    except ValueError:
        machine.note_anomaly("a string has a bad escape")
        value = raw.decode("latin-1")
    machine.stack.append(value if value.isascii() else UNKNOWN)
    machine.watcher.constant(value, start)


def unescape(raw: bytes) -> bytes:
    """Resolve escapes as unpickling does; an invalid escape stays as it is. Raises ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for invalid escapes
        return codecs.escape_decode(raw)[0]


def unicode_line(machine: PickleMachine) -> None:
    """Push a text in raw-unicode-escape that ends with the line."""
    start = machine.reader.offset
    raw, _ = machine.reader.line(LONGEST_LINE)
    if len(raw) >= LONGEST_LINE:
        keep_long(machine, raw[:KEPT_TEXT], start, machine.reader.offset - start, escaped=True)
        return
    try:
        value = raw.decode("raw-unicode-escape")
    except UnicodeDecodeError:
        machine.note_anomaly("a text has a bad escape")
        value = raw.decode("latin-1")
    machine.stack.append(value)
    if len(value) > 8:
        machine.watcher.constant(value, start)


def integer(machine: PickleMachine) -> None:
    """Push a number that is a line."""
    machine.stack.append(read_integer(machine))


def floating(machine: PickleMachine) -> None:
    """Push a float that is a line."""
    machine.stack.append(read_float(machine))


def binfloat(machine: PickleMachine) -> None:
    """Push a float of eight bytes; its value is irrelevant."""
    machine.reader.take(8)
    machine.stack.append(0.0)


def unsigned(machine: PickleMachine, width: int) -> None:
    """Push an unsigned number of ``width`` bytes."""
    machine.stack.append(machine.reader.number(width))


def signed(machine: PickleMachine) -> None:
    """Push a signed number of four bytes."""
    machine.stack.append(int.from_bytes(machine.reader.take(4), "little", signed=True))


def long(machine: PickleMachine, width: int) -> None:
    """Push a number whose length takes ``width`` bytes."""
    size = machine.reader.number(width)
    if size > KEPT_NUMBER:
        machine.reader.skip(size)
        machine.stack.append(UNKNOWN)
    else:
        machine.stack.append(int.from_bytes(machine.reader.take(size), "little", signed=True))


def literal(machine: PickleMachine, value: Value) -> None:
    """Push ``value``; the opcode has no argument."""
    machine.stack.append(value)


def buffer(machine: PickleMachine) -> None:
    """Push an out-of-band buffer, which the loader supplies."""
    machine.stack.append(UNKNOWN)


HANDLERS: dict[bytes, Handler] = {
    b"\x8c": partial(text, width=1),
    b"X": partial(text, width=4),
    b"\x8d": partial(text, width=8),
    b"C": partial(blob, width=1),
    b"B": partial(blob, width=4),
    b"\x8e": partial(blob, width=8),
    b"\x96": partial(blob, width=8),
    b"U": partial(binstring, width=1),
    b"T": partial(binstring, width=4),
    b"S": string,
    b"V": unicode_line,
    b"I": integer,
    b"L": integer,
    b"F": floating,
    b"G": binfloat,
    b"K": partial(unsigned, width=1),
    b"M": partial(unsigned, width=2),
    b"J": signed,
    b"\x8a": partial(long, width=1),
    b"\x8b": partial(long, width=4),
    b"N": partial(literal, value=None),
    b"\x88": partial(literal, value=True),
    b"\x89": partial(literal, value=False),
    b")": partial(literal, value=()),
    b"\x97": buffer,
}
