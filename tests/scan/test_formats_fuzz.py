"""For any bytes, a format's scan ends and raises nothing but a limit."""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkit.scan import BytesSource
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.registry import FORMATS
from buildkit.scan.limits import LimitError, ScanBudget, ScanLimits
from tests.scan.formatmaker import (
    gguf,
    graph,
    graph_node,
    hdf5,
    hdf5_attribute,
    hdf5_chunked,
    hdf5_datatype,
    hdf5_dims,
    hdf5_external_link,
    hdf5_filters,
    onnx,
    onnx_node,
    onnx_tensor,
    pb,
    safetensors,
    saved_model,
    tensor,
)
from tests.scan.test_formats_plain import GIF, JPEG, PARQUET, PIECES, WEBP, _png

SEEDS = [
    safetensors({"__metadata__": {"a": "b"}, "a": tensor(0, 24, [2, 3], "F32")}, bytes(24)),
    gguf({"general.alignment": 32, "tokenizer.chat_template": "{{ x }}"}, (("a", (32, 2), 0, 0),), bytes(256)),
    onnx(onnx_node("Add", "x", [pb((1, "v"), (5, onnx_tensor("w")))]), tensors=[onnx_tensor()]),
    onnx(onnx_node("If", attributes=[pb((6, pb((5, onnx_tensor("../w")))))]), more=pb((25, pb((10, "d"))))),
    saved_model(graph(graph_node("n", "Const", text="x"), graph_node("m", "SaveV2", ["n"])), metadata="{}"),
    hdf5(hdf5_attribute("m", b'{"a": 1}'), hdf5_external_link("l", "f"),
         children=(hdf5_dims(2, 3) + hdf5_datatype() + hdf5_chunked() + hdf5_filters(1, 300),)),
    json.dumps({"class_name": "Lambda", "config": {"function": ["x"]}, "chat_template": "{{ x|attr('y') }}"}).encode(),
    b"\x18\0\0\0TFL3" + bytes(16) + b"\x0c\0\x10\0\4\0\x08\0\x0c\0\0\0\x0c\0\0\0" + bytes(40),
    b"\x81\xa6params\x82\xa1a\x93\1\2\xc4\3abc\xa1b\xc7\4\1abcd",
    b"{L\0\0\0\0\0\0\0\7learner{i\1a[$d#l\0\0\0\2" + bytes(8) + b"i\1b[Si\2xxTZ]}}",
    pb((1, 4), (2, b"x"), (202, pb((1, pb((1, 4), (500, pb((1, pb((500, pb((10, "E")))))))))))),
    b"a: !!python/name:x\n", b"%TAG ! tag:x:\n---\n? &a [b, {c: *a}]\n: !d \"\\x5f\"\n<<: *a\n...\n",
    b"[a]\nb = {'_target_' = \"\\u005f\"}\n", b"# coding: utf-7\nimport os\n+AGE-\n", b"def f(x=open):\n  f'{x}'\n",
    b"<?xml version='1.0'?><!-- c --><!DOCTYPE x [<!ENTITY e 'y'>]><x/>", b'{"_class_name": ["a", "b"], "py/x": {}}',
    b"{% set n = namespace(a='x') %}{% for c in 'ab' %}{% set n.a = n.a ~ c %}{% endfor %}{{ x[n.a]|attr('y')(*z) }}",
    b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0", b"CBM1\4\0\0\0abcd", b"{{ 'a' ~ \"b\" }}{% raw %}",
    _png(), GIF, JPEG, WEBP, PIECES, PARQUET,
]  # fmt: skip
TIGHT = ScanLimits(fields=5000, findings=50, json=20_000, depth=4)


def try_all(content: bytes) -> None:
    """Pass the content to every format, even those that would not recognise it."""
    source = BytesSource(content)
    for one in FORMATS:
        context = ScanContext("x", ScanBudget(TIGHT), registry=())
        try:
            one.recognise(content[:4096], source)
            one.scan(context, source)
        except LimitError:
            pass


@settings(max_examples=150)
@given(st.binary(max_size=600))
@example(b"")
@example(b"\0")
def test_any_bytes_raise_nothing_but_limits(content):
    try_all(content)


@settings(max_examples=400)
@given(st.data())
def test_mutated_files_raise_nothing_but_limits(data):
    content = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        kind = data.draw(st.sampled_from(["flip", "set", "cut", "put", "same"]))
        if kind == "flip" and content:
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "set" and content:
            content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif kind == "put":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            content[at:at] = content[at : at + data.draw(st.integers(1, 40))]
    try_all(bytes(content))


@settings(max_examples=200)
@given(st.text(alphabet="{}%#|'\"\\_~+*[]().:, \nabx5f0-rawendimportclass<!>@", max_size=200))
def test_any_text_raises_nothing_but_limits(text):
    try_all(text.encode(errors="surrogatepass"))
    try_all(b"{{ " + text.encode(errors="surrogatepass"))
