"""Opcodes that push constants; lengths are those of the stream and never allocated before the bytes are there."""

from __future__ import annotations

import codecs
import warnings
from functools import partial

from buildkit.scan.pickle.machine import Handler, Machine
from buildkit.scan.pickle.values import TEXT, UNKNOWN, Blob, Text, Value

WHOLE = 2**16  # bytes of a line that is an argument
DIGITS = 60  # of a number worth knowing


def text(machine: Machine, width: int) -> None:
    """A UTF-8 text with a length of ``width`` bytes."""
    size = machine.tape.number(width)
    start = machine.tape.offset
    if size > TEXT:
        head = machine.tape.take(TEXT)
        machine.tape.skip(size - TEXT)
        keep_long(machine, head, start, size)
        return
    raw = machine.tape.take(size)
    value = raw.decode("utf-8", "surrogatepass") if raw.isascii() else decode(machine, raw)
    machine.stack.append(value)
    if size > 8:
        machine.watcher.constant(value, start)


def decode(machine: Machine, raw: bytes) -> str:
    """UTF-8 as pickle writes it; what is not is strange."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        machine.strange("a text is not UTF-8")
        return raw.decode("latin-1")


def keep_long(machine: Machine, head: bytes, start: int, size: int) -> None:
    """Push a text of which only the beginning is kept."""
    value = Text(head.decode("utf-8", "replace"), start, size)
    machine.stack.append(value)
    machine.watcher.constant(value, start)


def blob(machine: Machine, width: int) -> None:
    """Bytes with a length of ``width`` bytes, or a bytearray."""
    size = machine.tape.number(width)
    value = Blob(machine.tape.offset, size)
    machine.tape.skip(size)
    machine.stack.append(value)
    if size > 1:
        machine.watcher.constant(value, value.start)


def binstring(machine: Machine, width: int) -> None:
    """Python 2's str: a text for loaders with an encoding, which is the default; it may hold any bytes."""
    raw = machine.tape.take(width)
    size = int.from_bytes(raw, "little", signed=width == 4)
    if size < 0:
        machine.strange("a string has a negative length")
        size = 0
    start = machine.tape.offset
    if size > TEXT:
        machine.tape.skip(size)
        value: Value = Blob(start, size)
        machine.watcher.constant(Blob(start, size), start)
    else:
        kept = machine.tape.take(size)
        value = kept.decode("latin-1")
        if size > 1:
            machine.watcher.constant(Blob(start, size), start)
    machine.stack.append(value)


def string(machine: Machine) -> None:
    """A quoted string with escapes up to the end of the line."""
    start = machine.tape.offset
    raw, _ = machine.tape.line(WHOLE)
    if len(raw) >= WHOLE:
        keep_long(machine, raw[1:TEXT], start + 1, machine.tape.offset - start - 2)
        return
    raw = raw.strip()
    if len(raw) < 2 or raw[:1] not in (b"'", b'"') or raw[-1:] != raw[:1]:
        machine.strange("a string has no quotes")
    try:
        value = (unescape(raw[1:-1]) if b"\\" in raw else raw[1:-1]).decode("latin-1")
    except ValueError:
        machine.strange("a string has a bad escape")
        value = raw.decode("latin-1")
    machine.stack.append(value)
    machine.watcher.constant(value, start)


def unescape(raw: bytes) -> bytes:
    """What escapes stand for, as unpickling takes them; one that is none stands for itself. Raises ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of just that
        return codecs.escape_decode(raw)[0]


def unicode_line(machine: Machine) -> None:
    """A text in raw-unicode-escape up to the end of the line."""
    start = machine.tape.offset
    raw, _ = machine.tape.line(WHOLE)
    if len(raw) >= WHOLE:
        keep_long(machine, raw[:TEXT], start, machine.tape.offset - start)
        return
    try:
        value = raw.decode("raw-unicode-escape")
    except UnicodeDecodeError:
        machine.strange("a text has a bad escape")
        value = raw.decode("latin-1")
    machine.stack.append(value)
    if len(value) > 8:
        machine.watcher.constant(value, start)


def integer(machine: Machine) -> None:
    """A number in decimal; ``00`` and ``01`` are the booleans of protocol 0, a long may end with ``L``."""
    raw, _ = machine.tape.line(WHOLE)
    if raw in (b"00", b"01"):
        machine.stack.append(raw == b"01")
        return
    known: Value = UNKNOWN
    if len(raw) <= DIGITS:
        try:
            known = int(raw.rstrip(b"L"), 0)
        except ValueError:
            machine.strange("a number is none")
    machine.stack.append(known)


def floating(machine: Machine) -> None:
    """A float in decimal."""
    raw, _ = machine.tape.line(WHOLE)
    try:
        machine.stack.append(float(raw[:DIGITS]))
    except ValueError:
        machine.strange("a number is none")
        machine.stack.append(UNKNOWN)


def binfloat(machine: Machine) -> None:
    """Eight bytes of float, whose value matters to nobody."""
    machine.tape.take(8)
    machine.stack.append(0.0)


def unsigned(machine: Machine, width: int) -> None:
    """A number of ``width`` bytes."""
    machine.stack.append(machine.tape.number(width))


def signed(machine: Machine) -> None:
    """A number of four bytes."""
    machine.stack.append(int.from_bytes(machine.tape.take(4), "little", signed=True))


def long(machine: Machine, width: int) -> None:
    """A number whose length has ``width`` bytes."""
    size = machine.tape.number(width)
    if size > DIGITS:
        machine.tape.skip(size)
        machine.stack.append(UNKNOWN)
    else:
        machine.stack.append(int.from_bytes(machine.tape.take(size), "little", signed=True))


def literal(machine: Machine, value: Value) -> None:
    """A value without an argument."""
    machine.stack.append(value)


def buffer(machine: Machine) -> None:
    """Bytes that the loader has from elsewhere."""
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
