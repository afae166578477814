"""Pickles that would exhaust time or memory meet a limit, and earlier findings count."""

import struct

import pytest

from buildkit.scan import ScanLimits, Verdict, scan
from tests.scan.pickler import EVIL, PROTO, data, describe, pickle_stream, rules, scan_bytes, text

BITS = 2**60


@pytest.mark.parametrize(
    "opcode",
    [b"\x8d" + struct.pack("<Q", BITS), b"\x8e" + struct.pack("<Q", BITS), b"\x96" + struct.pack("<Q", BITS),
     b"X\xff\xff\xff\xff", b"B\xff\xff\xff\xff", b"T\xff\xff\xff\x7f", b"T\xff\xff\xff\xff", b"\x8b\xff\xff\xff\x7f"],
)  # fmt: skip
def test_declared_length_allocates_nothing(opcode):
    found = scan_bytes(PROTO + EVIL + opcode + b"abc.")
    assert "pickle-runs-code" in rules(found)
    assert found.gaps


def test_exponential_expansion_is_not_built():
    laugh = b"]" + b"".join(b"2\x94" + b"(" + b"h\x00" * 9 + b"e" for _ in range(3))
    body = b")" + b"2\x86" * 2000
    assert scan_bytes(pickle_stream(body)).verdict is Verdict.CLEAN
    assert "pickle-runs-code" in rules(scan_bytes(pickle_stream(body + EVIL)))
    assert "pickle-runs-code" in rules(scan_bytes(pickle_stream(laugh + EVIL)))
    assert "pickle-runs-code" in rules(scan_bytes(pickle_stream(b"cos\nsystem\n" + body + b"R")))


def test_opcodes_are_limited():
    content = pickle_stream(EVIL + b"N0" * 50_000)
    found = scan_bytes(content, limits=ScanLimits(opcodes=20_000))
    assert "pickle-runs-code" in rules(found)
    assert "more than 20000 opcodes" in describe(found)


@pytest.mark.parametrize("body", [b"N" * 50_000, b"(" * 50_000, b"]0" * 50_000, b"N\x94" * 30_000, b"Nr%s" * 3])
def test_stack_memo_and_objects_are_limited(body):
    body = b"".join(b"Nr" + struct.pack("<I", i) + b"0" for i in range(20_000)) if b"%" in body else body
    found = scan_bytes(PROTO + EVIL + body + b".", limits=ScanLimits(memo=10_000))
    assert "pickle-runs-code" in rules(found)
    assert "more than 10000 values" in describe(found)


def test_nesting_is_limited():
    content = pickle_stream(EVIL)
    for _ in range(12):
        content = pickle_stream(data(content))
    assert "deeper than 8" in describe(scan_bytes(content))
    deep = b"(" * 100_000 + b"t" * 100_000
    assert scan_bytes(pickle_stream(deep)).verdict is Verdict.CLEAN


def test_findings_are_limited():
    many = b"".join(f"cmodule{i}\nname\n0".encode() for i in range(3000))
    found = scan_bytes(pickle_stream(EVIL + b"0" + many + b"N"))
    assert "pickle-runs-code" in rules(found)
    assert len(found.findings) <= 1016
    assert found.gaps


def test_number_of_a_million_digits_is_skipped():
    found = scan_bytes(
        b"I" + b"9" * 1_000_000 + b"\n0L" + b"9" * 1_000_000 + b"L\n0F" + b"9" * 100_000 + b"\n0" + EVIL + b"."
    )
    assert "pickle-runs-code" in rules(found)


def test_long_line_is_skipped():
    for opcode in (b"V", b"S'", b"P"):
        found = scan_bytes(opcode + b"x" * 500_000 + (b"'" if b"'" in opcode else b"") + b"\n0" + EVIL + b".")
        assert "pickle-runs-code" in rules(found), opcode


def test_long_constant_is_not_read_in_full():
    class Watched:
        size = 3 * 2**30
        most = 0

        def read(self, offset, count):
            self.most = max(self.most, count)
            head = PROTO + b"\x8e" + struct.pack("<Q", self.size - 200)
            tail = b"0" + EVIL + b"0" + text("end") + b"."
            start = len(head) + self.size - 200
            count = max(0, min(count, self.size - offset))
            if count > 2**24:
                raise AssertionError("a long read")
            part = bytearray(count)
            for where, content in ((0, head), (start, tail)):
                for index, byte in enumerate(content):
                    if 0 <= where + index - offset < count:
                        part[where + index - offset] = byte
            return bytes(part)

    source = Watched()
    found = scan("m", source)
    assert "pickle-runs-code" in rules(found)
    assert source.most <= 2**24
