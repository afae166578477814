"""Numbers that are lines of text, as CPython's C unpickler reads them.

It takes a line up to its first NUL byte for a C string. ``INT`` is ``strtol`` with any base and so reads octal digits,
which ``int`` refuses; numbers have no largest length. Where the unpickler in Python takes more, so does this module.
"""

from __future__ import annotations

import re

from buildkit.scan.pickle.machine import PickleMachine
from buildkit.scan.pickle.values import UNKNOWN, Value

LONGEST_LINE = 2**16  # bytes of a line that is an argument
DIGITS = 4000  # longer numbers are not converted: Python has a limit of 4300
INDEX = re.compile(rb"\+?(\d+(?:_\d+)*)|-(0+)")
OCTAL = re.compile(rb"[+-]?0[0-7]+")
LONG = re.compile(rb"[+-]?\d+(?:_\d+)*L*")
LONG_FLOAT = re.compile(rb"[+-]?[\d_]*\.?[\d_]*(?:[eE][+-]?[\d_]*)?")


def read_line(machine: PickleMachine) -> tuple[bytes, bool]:
    """Read a line that is a number; return its text, and whether all of the line is known."""
    raw, _ = machine.reader.line(LONGEST_LINE)
    return raw.partition(b"\0")[0].strip(), len(raw) < LONGEST_LINE or b"\0" in raw


def read_index(machine: PickleMachine) -> int | bytes:
    """Read the number of an entry of the memo; one of very many digits stays text."""
    raw, whole = read_line(machine)
    found = INDEX.fullmatch(raw)
    if found is None or not whole:
        machine.note_anomaly("a number is malformed")
        return raw
    digits = (found[1] or b"0").replace(b"_", b"").lstrip(b"0")
    return int(digits or b"0") if len(digits) <= DIGITS else digits


def read_integer(machine: PickleMachine) -> Value:
    """Read the argument of INT or LONG: ``00`` and ``01`` are booleans, a long may end with ``L``."""
    raw, whole = read_line(machine)
    if raw in (b"00", b"01"):
        return raw == b"01"
    if len(raw) > DIGITS or not whole:
        if not LONG.fullmatch(raw):
            machine.note_anomaly("a number is malformed")
        return UNKNOWN
    try:
        return int(raw, 8) if OCTAL.fullmatch(raw) else int(raw.rstrip(b"L"), 0)
    except ValueError:
        machine.note_anomaly("a number is malformed")
        return UNKNOWN


def read_float(machine: PickleMachine) -> Value:
    """Read the argument of FLOAT."""
    raw, whole = read_line(machine)
    if not whole and LONG_FLOAT.fullmatch(raw):
        return UNKNOWN
    try:
        return float(raw)
    except ValueError:
        machine.note_anomaly("a number is malformed")
        return UNKNOWN
