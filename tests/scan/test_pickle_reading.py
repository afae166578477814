"""The pickle machine reads a stream as CPython's unpicklers do; streams that differed once, and their kin.

``tests/fuzz/test_unpicklers.py`` compares random streams.
"""

import pickletools
import struct

import pytest

from buildkit.scan import BytesSource
from buildkit.scan.pickle.opcodes import HANDLERS
from buildkit.scan.pickle.recognise import is_pickle
from tests.fuzz.unpicklers import compare, limited, reach_with_machine
from tests.scan.pickler import EVIL, PROTO, describe, pickle_stream, rules, scan_bytes, text

REACHED = b"cposix\nsystem\n."
NUMBERS = {
    "index of many digits": b"Vposix\np" + b"0" * 50 + b"1\n0Vx\np2\n0g1\nVsystem\n\x93.",
    "index of thousands of digits": b"Vposix\np" + b"0" * 4000 + b"1\n0Vx\np2\n0g1\nVsystem\n\x93.",
    "index with spaces": b"Vposix\np 1\t\n0Vx\np2\n0g1\r\nVsystem\n\x93.",
    "index with a sign": b"Vposix\np+1\n0Vx\np2\n0g1\nVsystem\n\x93.",
    "index with underscores": b"Vposix\np1_0\n0Vx\np2\n0g10\nVsystem\n\x93.",
    "index cut by a NUL": b"Vposix\np1\x005\n0Vx\np2\n0g1\nVsystem\n\x93.",
    "index that is negative zero": b"Vposix\np-0\n0Vx\np2\n0g0\nVsystem\n\x93.",
    "octal": b"I0777\n0" * 70 + REACHED,
    "hexadecimal": b"I0x1F\n0" * 70 + REACHED,
    "cut integer": b"I5\x00zz\n0" * 70 + REACHED,
    "long with a letter": b"L5L\n0" * 70 + REACHED,
    "long of many digits": b"L" + b"9" * 4000 + b"L\n0" + REACHED,
    "float of many digits": (b"F1" + b"0" * 100 + b"e-5\n0") * 70 + REACHED,
    "cut float": b"F1.5\x00zz\n0" * 70 + REACHED,
    "integers of many bytes": (b"\x8a\x80" + bytes(128) + b"0") * 70 + REACHED,
}
TEXTS = {
    "escapes of UNICODE": b"Vpos\\u0069x\nVs\\u0079stem\n\x93.",
    "escapes of STRING": b"S'p\\x6fsix'\nS'\\163ystem'\n\x93.",
    "texts of Python 2": b"U\x05posixT\x06\x00\x00\x00system\x93.",
    "text that is not ASCII": b"Vcaf\\u00e9\n" + text("\u00fcber") + b"\x93.",
    "bytes and bytearrays": b"C\x01x0\x8e\x01" + bytes(7) + b"x0\x96\x01" + bytes(7) + b"x0" + REACHED,
    "carriage return in a name": b"cposix\r\nsystem\n.",
}
STACKS = {
    "dropped mark": b"(0" + REACHED,
    "memo by its length": b"N\x94N\x94Vposix\n\x940h\x02Vsystem\n\x93.",
    "memo by its length, after an entry was written over": b"Nq\x00q\x00Vposix\n\x940h\x01Vsystem\n\x93.",
    "INST": b"(iposix\nsystem\n.",
    "list as arguments": b"csome\nThing\n]R0" + REACHED,
    "frame within a frame": PROTO
    + b"\x95"
    + struct.pack("<Q", 40)
    + b"\x95"
    + struct.pack("<Q", 3)
    + b"N0N0"
    + REACHED,
    "protocol in the middle": b"\x80\x02N0\x80\x05" + REACHED,
    "anomaly": b"R" + REACHED,
}


@pytest.mark.parametrize(
    "stream", [*NUMBERS.values(), *TEXTS.values(), *STACKS.values()], ids=[*NUMBERS, *TEXTS, *STACKS]
)
@pytest.mark.parametrize("encoding", ["ASCII", "latin1", "bytes"])
def test_machine_sees_what_cpython_reaches(stream, encoding):
    with limited():
        assert not compare(stream, encoding).missed


@pytest.mark.parametrize("name", NUMBERS)
def test_spelling_of_numbers_is_no_anomaly(name):
    assert is_pickle(BytesSource(NUMBERS[name]))
    assert ("posix", "system") in reach_with_machine(NUMBERS[name]).reached


def test_machine_knows_every_opcode():
    assert {op.code.encode("latin-1") for op in pickletools.opcodes} == {*HANDLERS, b"."}


FRAMED = {
    "name across a frame's end": b"\x95" + struct.pack("<Q", 11) + b"c__torch__.posix\nsystem\n)R.",
    "text across a frame's end": b"\x95" + struct.pack("<Q", 4) + text("__torch__.") + text("x") + b"\x93.",
    "frame across a frame's end": b"\x95"
    + struct.pack("<Q", 12)
    + b"N0\x95"
    + struct.pack("<Q", 30)
    + b"N" * 20
    + b".",
}


@pytest.mark.parametrize("name", FRAMED)
def test_opcode_across_the_end_of_a_frame_is_ambiguous(name):
    """The C unpickler forgets what is left of the frame: it reads ``posix`` where others read ``__torch__.posix``."""
    found = scan_bytes(PROTO + FRAMED[name])
    assert "pickle-ambiguous" in rules(found), describe(found)


def test_name_of_python_2_is_no_excuse_in_protocol_3():
    assert "pickle-unknown-global" in rules(scan_bytes(pickle_stream(b"ccopy_reg\n_reconstructor\n")))
    assert not rules(scan_bytes(b"\x80\x02ccopy_reg\n_reconstructor\n."))
    assert "pickle-runs-code" in rules(scan_bytes(pickle_stream(b"c__builtin__\neval\n)R")))


def test_number_too_long_to_read_is_a_gap():
    found = scan_bytes(PROTO + b"Vx\np" + b"0" * 70_000 + b"1\n0g1\n" + EVIL + b".")
    assert "pickle-runs-code" in rules(found)
    assert found.gaps
