"""Programs and plain data: recognition, lookalikes, and content hidden after them."""

import base64
import struct
import zlib

import pytest

from buildkit.findings import Severity
from buildkit.scan import ScanLimits, Verdict
from tests.scan.formatmaker import empty_zip_end, pb, rules, scan_bytes


def _png(more: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"") + more


GIF = b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + b"\x21\xf9\4\0\0\0\0\0" + b",\0\0\0\0\1\0\1\0\0" + b"\2\2D\1\0" + b";"
JPEG = b"\xff\xd8\xff\xe0\0\4ab\xff\xda\0\4ab" + b"data\xff\0more\xff\xd0rest" + b"\xff\xd9"
WEBP = b"RIFF" + struct.pack("<I", 12) + b"WEBPVP8 " + bytes(4)
PIECES = pb(
    (1, pb((1, "<unk>"), (2, 0.0), (3, 2))), (1, pb((1, "a"), (2, -1.0))), (2, pb((1, "x"))), (3, pb((1, "nmt")))
)
PARQUET = b"PAR1" + b"data" + b"footer" + struct.pack("<I", 6) + b"PAR1"


@pytest.mark.parametrize(
    "content",
    [
        b"\x7fELF\2\1\1" + bytes(60),
        b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0",
        b"\xcf\xfa\xed\xfe" + bytes(30),
        b"\xca\xfe\xba\xbe\0\0\0\2" + bytes(30),
        b"\xca\xfe\xba\xbe\0\0\0\x41" + bytes(30),
        b"\0asm\1\0\0\0",
        struct.pack("<H", 3495) + b"\r\n" + bytes(12) + b"\xe3" + bytes(20),
        b"dex\n035\0",
        b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(20),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(20),
        b"!<arch>\ndebian-binary",
        b"#!/usr/bin/env python3\n\0\0binary",
    ],
    ids=lambda content: repr(content[:6]),
)
def test_program_is_found(content):
    found = scan_bytes(content)
    assert {one.rule.id for one in found.findings} == {"program"}
    assert found.findings[0].severity is Severity.HIGH


def test_content_that_only_begins_like_a_program_is_not_one():
    for content in (b"MZ and so on, a text\n", b"#!markdown\n", b"BC\n", b"\x0d\x0d\r\n" + bytes(40)):
        assert "program" not in rules(content)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (_png(), "PNG"), (GIF, "GIF"), (JPEG, "JPEG"), (WEBP, "RIFF"), (PIECES, "SentencePiece"), (PARQUET, "Parquet"),
        (b"ARROW1\0\0" + bytes(50) + b"ARROW1", "Arrow"), (b"CBM1" + struct.pack("<I", 8) + bytes(8), "CatBoost"),
        (b"\x81\xa6params\x82\xa1a\x93\1\2\xc4\3abc\xa1b\xc7\4\1abcd", "MessagePack"),
        (b"{L" + struct.pack(">q", 7) + b"learner{i\1a[$d#l\0\0\0\2" + bytes(8) + b"i\1b[Si\2xxTZ]}}", "UBJSON"),
        (bytes(40) + bytes.fromhex("57fb808b247547db"), "TensorFlow checkpoint index"),
        (pb((1, 2), (1, 3), (2, 1), (8, "x"), (9, bytes(24))), "ONNX tensor"),
        (pb((1, 2**60), (2, 5), (3, 6), (4, 7), (5, 8), (6, pb((1, 1)))), "TensorFlow fingerprint"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_plain_data_is_clean(content, name):
    found = scan_bytes(content)
    assert (found.verdict, found.findings, found.gaps) == (Verdict.CLEAN, (), ())
    assert name in found.formats


@pytest.mark.parametrize("content", [_png(), GIF, JPEG, WEBP], ids=["png", "gif", "jpeg", "webp"])
def test_bytes_after_image_are_found(content):
    assert rules(content + b"\x7fELF" + bytes(60)) == {"trailing-bytes", "program"}


def test_bytes_after_binary_json_are_found():
    assert rules(b"\x81\xa1a\1" + b"\x7fELF" + bytes(60)) == {"trailing-bytes", "program"}
    assert "zip-polyglot" in rules(b"CBM1" + struct.pack("<I", 4) + bytes(40) + empty_zip_end())


@pytest.mark.parametrize("shift", range(3))
def test_arrow_pickled_type_is_found(shift):
    name = b"arrow.py_extension_type"
    plain = b"ARROW1\0\0" + bytes(9) + name + bytes(9)
    coded = base64.b64encode(bytes(shift) + b"x" * 3 + name + b"yyy")
    parquet = b"PAR1" + coded + struct.pack("<I", len(coded)) + b"PAR1"
    assert rules(plain) == {"arrow-python-type"}
    assert rules(parquet) == {"arrow-python-type"}


@pytest.mark.parametrize(
    "content", [_png()[:40], GIF[:-3], JPEG[:-2], WEBP[:-2], PIECES + pb((9, "x")), b"\x81\xa1a\x99\1"]
)
def test_truncated_or_extended_plain_data_is_not_clean(content):
    assert scan_bytes(content).verdict is Verdict.PARTIAL


def test_graph_disguised_as_vocabulary_is_not_a_vocabulary():
    """A reader of ONNX passes over pieces it does not know; a scan that did not would call the file clean."""
    assert (
        scan_bytes(
            PIECES * 80
            + pb(
                (
                    7,
                    pb((1, pb((4, "Evil"), (7, "evil")))),
                ),
                (8, b""),
            )
        ).verdict
        is Verdict.PARTIAL
    )
    assert scan_bytes(pb(*((1, pb((1, "a"), (2, 1.0), (4, b"x"))) for _ in range(3)))).verdict is Verdict.PARTIAL


def test_opaque_format_is_a_gap_with_reason():
    found = scan_bytes(b"lmgg" + bytes(40))
    assert found.verdict is Verdict.PARTIAL
    assert "cannot be read" in found.gaps[0].why


def test_empty_content_is_clean_and_noise_is_not_fully_scanned():
    assert scan_bytes(b"").verdict is Verdict.CLEAN
    assert scan_bytes(b"\xfe\xdc\xba\x98" * 50).verdict is Verdict.PARTIAL


def test_endless_binary_json_is_a_gap():
    for content in (
        b"\x81\xa1a" + b"\x91" * 500,
        b"{i\1a" + b"[" * 500,
        b"\x81\xa1a\xdd\xff\xff\xff\xff",
        b"{i\1a[#L" + b"\x7f" * 8,
    ):
        assert scan_bytes(content).verdict is Verdict.PARTIAL
    assert scan_bytes(b"\x81\xa1a\xdc\xff\xff" + b"\1" * 65535, ScanLimits(fields=1000)).verdict is Verdict.PARTIAL
