"""The second net: calls by opcodes at any offset of content whose format is guessed, and no false alarm elsewhere."""

import json
import random
import struct

import numpy as np
import pytest

from buildkit.scan import BytesSource, Verdict
from buildkit.scan.pickle import net
from buildkit.scan.pickle.net import BLOCK, find_calls, find_texts
from tests.scan.craft import safetensors
from tests.scan.pickler import EVIL, call, describe, malicious_pickle, named, pickle_stream, rules, scan_bytes, text

PUSHED = b"Vposix\nVsystem\n\x93"
STREAMS = {
    "GLOBAL": b"cposix\nsystem\n(S'id'\ntR.",
    "GLOBAL after a letter": b"Kccposix\nsystem\n(S'id'\ntR.",
    "GLOBAL of an unknown module": b"cevil_package\nrun\n)R.",
    "GLOBAL with a memo": b"cposix\nsystem\np0\n(S'id'\np1\ntp2\nRp3\n.",
    "GLOBAL and other opcodes": b"cposix\nsystem\nN0I1\n0(S'id'\nN0tN0R.",
    "GLOBAL and a long constant": b"cposix\nsystem\nB" + struct.pack("<I", 5000) + bytes(5000) + b"\x85R.",
    "OBJ": b"(cposix\nsystem\nS'id'\no.",
    "INST": b"(S'id'\niposix\nsystem\n.",
    "NEWOBJ": b"cposix\nsystem\n)\x81.",
    "NEWOBJ_EX": b"cposix\nsystem\n)}\x92.",
    "texts": PUSHED + b"(Vid\ntR.",
    "texts with lengths": text("posix")
    + b"\x94"
    + text("system")
    + b"\x94\x93\x94"
    + text("id")
    + b"\x94\x85\x94R\x94.",
    "texts with long lengths": b"X\x05\0\0\0posixq\x00X\x06\0\0\0systemq\x01\x93)R.",
    "texts with very long lengths": b"\x8d\x05" + bytes(7) + b"posix\x8d\x06" + bytes(7) + b"system\x93)R.",
    "texts of Python 2": b"U\x05posixT\x06\0\0\0system\x93)R.",
    "texts with escapes": b"Vpos\\u0069x\nVs\\u0079stem\n\x93)R.",
    "quoted texts": b"S'p\\x6fsix'\nS\"system\"\n\x93)R.",
    "texts from the memo": b"Vposix\np1\n0Vsystem\np2\n0g1\ng2\n\x93(Vid\ntR.",
    "texts from the memo, in other words": b"Vsystem\np2\n0Vposix\np1\n0N0N0h\x01h\x02\x93(Vid\ntR.",
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("before", [b"", b"\xff" * 100, b"plain text\n", bytes(BLOCK - 7), b'{"a": 1}'])
def test_call_at_any_offset_is_found(name, before):
    found = find_calls(BytesSource(before + STREAMS[name] + b"\xff" * 50))
    assert found, STREAMS[name]
    assert any((call.module, call.name) in (("posix", "system"), ("evil_package", "run")) for call in found)


@pytest.mark.parametrize("name", STREAMS)
def test_call_that_two_blocks_share_is_found(name, monkeypatch):
    stream, size = STREAMS[name], 256
    monkeypatch.setattr(net, "BLOCK", size)
    for inside in range(min(len(stream), 100)):
        assert find_calls(BytesSource(bytes(size - inside) + stream)), inside


@pytest.mark.parametrize(
    "between", [b"N0" * 30, b"]" * 9, b"Vlong" + b"g" * 600 + b"\n0", b"X\x05\0\0\0texts0", b"h\0" * 5]
)
def test_call_after_other_opcodes_is_found(between):
    assert find_calls(BytesSource(b"\xff" + PUSHED + between + b"(Vid\ntR."))


@pytest.mark.parametrize(("before", "after"), [(b"V", b"\n"), (b"S'", b"'\n"), (b'S"', b'"\n')])
@pytest.mark.parametrize("begin", [b"n", b"\xe9", b"\\u006e", b"n\\u00e9"])
def test_text_that_is_a_line_has_400_bytes_at_most(before, after, begin):
    if before != b"V":
        begin = begin.replace(b"u00", b"x")
    for size, found in ((400, 1), (401, 0), (801, 0)):
        block = before + begin.ljust(size, b"n") + after
        texts = list(find_texts(block, 0, len(block)))
        assert [(text.start, text.end) for text in texts] == [(0, len(block))] * found
        assert all(set(text.value) <= {"n", "é"} for text in texts)


@pytest.mark.parametrize("line", [b"two words", b"1st", b"a-b", b"\xb7", b"a\\", b"", b"\\u0020a", b"a\\q"])
def test_line_that_is_no_name_is_no_text(line):
    assert not list(find_texts(b"V" + line + b"\n", 0, len(line) + 2))


def test_offset_is_that_of_the_opcode():
    (found,) = find_calls(BytesSource(b"\xff" * 10 + STREAMS["GLOBAL"]))
    assert found.offset == 10


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 16 + malicious_pickle(),
        b"text\n" * 9 + STREAMS["GLOBAL"],
        b'{"a": 1}\n' + STREAMS["GLOBAL"],
        b"\xff\xfe" + EVIL,
    ],
)
def test_guessed_content_with_a_call_has_a_finding(content):
    found = scan_bytes(content)
    assert "pickle-stray-call" in rules(found), describe(found)
    assert found.verdict is Verdict.FINDINGS


def test_call_at_the_start_of_numbers_is_found():
    header = b'{"w":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}}'
    tensors = struct.pack("<Q", len(header)) + header + STREAMS["GLOBAL"].ljust(64, b"\0")
    assert "pickle-stray-call" in rules(scan_bytes(tensors))


def test_machine_and_net_do_not_report_twice():
    for content in (malicious_pickle(), malicious_pickle()[:-1], b"\x80\x04" + EVIL + b"\xff"):
        assert "pickle-stray-call" not in rules(scan_bytes(content))


def test_allowed_names_are_no_finding():
    stream = call(named("collections", "OrderedDict")) + call(named("numpy", "dtype"), text("f4"))
    assert not find_calls(BytesSource(b"\xff" + pickle_stream(stream)))
    own = BytesSource(b"\xff" + pickle_stream(call(named("mine.layers", "Block"))))
    assert find_calls(own)
    assert not find_calls(own, frozenset({"mine.layers.Block"}))


WORDS = "cos sin system tan English polish posix code ast test sh os io print exec getattr builtins Run tR object"
TEXTS = {
    "words, one a line": "\n".join(f"{WORDS} (ish (ip add".split()),
    "words in any order": "\n".join(random.Random(1).choices(WORDS.split(), k=20_000)),
    "dashes and accents": "Óos – ósystem — “quoted” \u0093 (t) R\n" * 400,
    "source": "import os\nos.system('id')\nfrom builtins\nimport eval\n(t)R\n" * 50,
    "escaped pickle": "payload = b\"cos\\nsystem\\n(S'id'\\ntR.\"\n" * 20,
    "JSON": json.dumps(
        {"vocab": {word: at for at, word in enumerate(WORDS.split())}, "x": ["cos\nsystem\n(S'id'\ntR."]}
    ),
    "many words": "\n".join("".join(random.Random(at).choices("abcdefgilmnopqrstuRSTXY", k=6)) for at in range(20_000)),
    "merges": "\n".join(f"{one} {other}" for one in WORDS.split() for other in WORDS.split()),
    "hexadecimal": random.Random(2).randbytes(50_000).hex("\n", 3),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_has_no_false_alarm(name):
    assert not find_calls(BytesSource(TEXTS[name].encode()))


@pytest.mark.parametrize("kind", ["f4", "f2", "i4", "u1"])
def test_numbers_have_no_false_alarm(kind):
    draw = np.random.default_rng(5)
    numbers = draw.integers(0, 128, 2_000_000) if kind in ("i4", "u1") else draw.standard_normal(1_000_000)
    assert not find_calls(BytesSource(numbers.astype(kind).tobytes()))
    assert not find_calls(BytesSource(random.Random(kind).randbytes(3_000_000)))
    assert scan_bytes(safetensors()).verdict is Verdict.CLEAN
