"""ONNX: the model's graphs, functions and tensors, walked as protocol buffers; weights are measured, not read.

Field numbers: github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
from dataclasses import field
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from buildkit.findings import Rule, Severity
from buildkit.lazy_dataclass import dataclass
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import MalformedContentError, quote
from buildkit.scan.formats.onnx_metadata import check_metadata
from buildkit.scan.formats.paths import find_escape
from buildkit.scan.formats.polyglot import check_zip
from buildkit.scan.formats.protobuf import BYTES, VARINT, ByteSpan, ProtoField, ProtoReader, first_fields, signed
from buildkit.scan.limits import LimitError
from buildkit.scan.source import ScanSource

EXTERNAL = Rule(
    id="onnx-external-path",
    title="ONNX weights outside the model's folder",
    severity=Severity.HIGH,
    why="Loading reads the named file as weights, and saving overwrites it: any file of the host.",
    advice="Do not load the model; its weights belong in its own folder, under a plain name.",
    references=("CVE-2022-25882", "CVE-2024-5187", "CVE-2024-27318", "CVE-2025-51480", "CVE-2026-27489"),
)
EXTERNAL_KEY = Rule(
    id="onnx-external-key",
    title="An unknown key in an ONNX tensor's external data",
    severity=Severity.MEDIUM,
    why="onnx before 1.21 sets any attribute of its own object to the value of such a key.",
    advice="Do not load the model with an older onnx; ask for one that was saved with the library.",
    references=("CVE-2026-34445",),
)
DOMAIN = Rule(
    id="onnx-custom-domain",
    title="ONNX operators that neither ONNX nor the model defines",
    severity=Severity.MEDIUM,
    why="A native library runs them, which the user of the model registers and which often comes with it.",
    advice="Find out where that library comes from, or ask for a model of standard operators.",
)
PYTHON_OP = Rule(
    id="onnx-python-op",
    title="An ONNX operator that runs Python",
    severity=Severity.HIGH,
    why="The operator calls Python code by name when the model is run.",
    advice="Do not run the model.",
)
SIZE = Rule(
    id="onnx-tensor-size",
    title="An ONNX tensor whose size does not fit its shape",
    severity=Severity.MEDIUM,
    why="Readers that trust the shape read beyond the data, or allocate far more memory than the file has.",
    advice="Do not load the model; ask the author for an intact one.",
    references=("CVE-2026-34446",),
)
_PYTHON = frozenset({"PyOp", "PythonOp", "PythonOpGrad", "PyFunc", "PyCustomOp"})
_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
         17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}  # fmt: skip
_DEPTH = 64
_DEFAULT = "ai.onnx"
_LONGEST = 1000  # bytes of an operator's name
_GRAPH, _OPSET, _METADATA, _FUNCTIONS, _TRAINING = 7, 8, 14, 25, 20


class _OperatorName(NamedTuple):
    """What selects a function of the model: all three must be equal. ``ai.onnx`` is the domain without a name."""

    domain: str
    name: str
    overload: str = ""


@cache
def known_operators() -> frozenset[_OperatorName]:
    """Return the operators that ONNX and ONNX Runtime define."""
    text = (files(__package__) / "onnx_operators.txt").read_text(encoding="utf-8")
    lines = (line.partition(": ") for line in text.splitlines() if line and not line.startswith("#"))
    return frozenset(_OperatorName(domain, name) for domain, _, names in lines for name in names.split())


@dataclass(slots=True)
class _OnnxWalk:
    context: ScanContext
    proto: ProtoReader
    functions: set[_OperatorName] = field(default_factory=set)
    operators: dict[_OperatorName, int] = field(default_factory=dict)


def recognise(head: bytes, source: ScanSource) -> bool:
    """Recognise a message with a graph and an operator set, or with a format version and either."""
    if not head or head[0] not in (0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72):
        return False
    fields = first_fields(source, 64)
    if not fields:
        return False
    seen = {(item.number, item.wire) for item in fields}
    graph, opset = (_GRAPH, BYTES) in seen, (_OPSET, BYTES) in seen
    version = any(item.number == 1 and item.wire == VARINT and item.value < 1000 for item in fields)
    known = all(item.number in {*range(1, 9), 14, _TRAINING, _FUNCTIONS, 26} for item in fields)
    return (graph and (opset or version)) or (version and opset and known)


def recognise_tensor(head: bytes, source: ScanSource) -> bool:
    """Recognise a stand-alone tensor, as in test data: a type, and numbers."""
    if not head or head[0] not in (0x08, 0x0A, 0x10):
        return False
    fields = first_fields(source, 64)
    if not fields or any(not 0 < item.number <= 16 for item in fields):
        return False
    typed = any(item.number == 2 and item.wire == VARINT and item.value in _BITS for item in fields)
    return typed and any(item.number in (4, 5, 7, 9, 10, 11) and item.wire == BYTES for item in fields)


def scan_tensor(context: ScanContext, source: ScanSource) -> None:
    """Check a stand-alone tensor.

    Raises:
        MalformedContentError: it is not a tensor.
        LimitError: it has more fields than are read.
    """
    walk = _OnnxWalk(context, ProtoReader(source, context.budget.limits.fields))
    _tensor(walk, walk.proto.whole)
    if any(not 0 < item.number <= 16 for item in walk.proto.fields(walk.proto.whole)):
        context.gap("it has fields that a tensor does not have")


def scan(context: ScanContext, source: ScanSource) -> None:
    """Walk every graph, function and tensor.

    Raises:
        MalformedContentError: it is not a model.
        LimitError: it has more fields than are read.
    """
    walk = _OnnxWalk(context, ProtoReader(source, context.budget.limits.fields))
    metadata = list[ByteSpan]()
    for item in walk.proto.fields(walk.proto.whole):
        if item.wire != BYTES:
            continue
        if item.number == _METADATA:
            metadata.append(item.span)
        elif item.number == _GRAPH:
            _graph(walk, item.span, 0)
        elif item.number == _FUNCTIONS:
            _function(walk, item.span)
        elif item.number == _TRAINING:
            for graph in walk.proto.fields(item.span):
                if graph.wire == BYTES and graph.number in (1, 2):
                    _graph(walk, graph.span, 0)
    _report_operators(walk)
    check_zip(context, source)
    check_metadata(context, walk.proto, metadata)


def _report_operators(walk: _OnnxWalk) -> None:
    for used, at in walk.operators.items():
        if used.name in _PYTHON:
            walk.context.find(PYTHON_OP, f"the operator {quote(f'{used.domain}.{used.name}')} is used", offset=at)
        elif used not in walk.functions and used._replace(overload="") not in known_operators():
            walk.context.find(DOMAIN, f"the operator {quote(f'{used.domain}.{used.name}')} is used", offset=at)


def _function(walk: _OnnxWalk, span: ByteSpan) -> None:
    """Walk a function of the model; one without operators defines nothing."""
    texts = {1: "", 10: "", 13: ""}
    defined = False
    for item in walk.proto.fields(span):
        if item.wire != BYTES:
            continue
        if item.number in texts:
            texts[item.number] = _name(walk, item.span)
        elif item.number == 7:
            _node(walk, item.span, 0)
            defined = True
        elif item.number == 11:
            _attribute(walk, item.span, 0)
    if defined:
        walk.functions.add(_OperatorName(texts[10] or _DEFAULT, texts[1], texts[13]))


def _graph(walk: _OnnxWalk, span: ByteSpan, depth: int) -> None:
    if depth > _DEPTH:
        raise LimitError(f"graphs nested deeper than {_DEPTH}")
    for item in walk.proto.fields(span):
        if item.wire != BYTES:
            continue
        if item.number == 1:
            _node(walk, item.span, depth)
        elif item.number == 5:
            _tensor(walk, item.span)
        elif item.number == 15:
            _sparse(walk, item.span)


def _node(walk: _OnnxWalk, span: ByteSpan, depth: int) -> None:
    texts = {4: "", 7: "", 8: ""}
    attributes: list[ByteSpan] = []
    for item in walk.proto.fields(span):
        if item.wire != BYTES:
            continue
        if item.number in texts:
            texts[item.number] = _name(walk, item.span)
        elif item.number == 5:
            attributes.append(item.span)
    walk.operators.setdefault(_OperatorName(texts[7] or _DEFAULT, texts[4], texts[8]), span.start)
    for attribute in attributes:
        _attribute(walk, attribute, depth)
    if texts[4] == "EPContext":
        _context(walk, attributes)


def _name(walk: _OnnxWalk, span: ByteSpan) -> str:
    """Return a name in full: names that are cut or escaped may be equal though the names differ."""
    text = walk.proto.text(span, _LONGEST + 1)
    if span.size > _LONGEST or "\\" in text:
        raise MalformedContentError(f"the name {quote(text)} of an operator or its domain", span.start)
    return text


def _context(walk: _OnnxWalk, attributes: list[ByteSpan]) -> None:
    """Check an execution provider's compiled part, which may be in a separate file (`embed_mode` 0)."""
    values: dict[str, ProtoField] = {}
    for attribute in attributes:
        fields = list(walk.proto.fields(attribute))
        name = next((walk.proto.text(item.span) for item in fields if item.number == 1 and item.wire == BYTES), "")
        values.update((name, item) for item in fields if item.number in (3, 4))
    mode, cache = values.get("embed_mode"), values.get("ep_cache_context")
    if cache is not None and cache.wire == BYTES and mode is not None and mode.value == 0:
        _check_location(walk, walk.proto.text(cache.span), cache.span.start)
    walk.context.gap(
        "a part is compiled for an accelerator (EPContext) and cannot be read", offset=cache and cache.span.start
    )


def _attribute(walk: _OnnxWalk, span: ByteSpan, depth: int) -> None:
    for item in walk.proto.fields(span):
        if item.wire != BYTES:
            continue
        if item.number in (6, 11):
            _graph(walk, item.span, depth + 1)
        elif item.number in (5, 10):
            _tensor(walk, item.span)
        elif item.number in (22, 23):
            _sparse(walk, item.span)


def _sparse(walk: _OnnxWalk, span: ByteSpan) -> None:
    for item in walk.proto.fields(span):
        if item.wire == BYTES and item.number in (1, 2):
            _tensor(walk, item.span)


def _tensor(walk: _OnnxWalk, span: ByteSpan) -> None:
    dims: list[int] = []
    kind = raw = None
    name = ""
    external = False
    for item in walk.proto.fields(span):
        if item.number == 1:
            dims += _packed(walk.proto, item)
        elif item.wire == VARINT:
            kind = item.value if item.number == 2 else kind
            external = external or (item.number == 14 and item.value == 1)
        elif item.number == 8 and item.wire == BYTES:
            name = walk.proto.text(item.span, 200)
        elif item.number == 9 and item.wire == BYTES:
            raw = item.span
        elif item.number == 13 and item.wire == BYTES:
            _external(walk, item.span)
    if any(item < 0 for item in dims):
        walk.context.find(SIZE, f"tensor {quote(name)} has a negative dimension", offset=span.start)
    elif raw is not None and not external and kind in _BITS:
        need = (math.prod(dims) * _BITS[kind] + 7) // 8 if len(dims) <= _DEPTH else -1
        if need != raw.size:
            what = f"tensor {quote(name)} of shape {dims[:8]} has {raw.size} bytes"
            walk.context.find(SIZE, what, offset=raw.start)


def _packed(proto: ProtoReader, item: ProtoField) -> list[int]:
    if item.wire == VARINT:
        return [signed(item.value)]
    content = proto.window.read(item.span.start, min(item.span.size, 10 * _DEPTH + 10))
    numbers, value, shift = [], 0, 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(signed(value & (2**64 - 1)))
            value = shift = 0
        elif shift > 63:
            raise MalformedContentError("an unterminated dimension", item.span.start)
    return numbers


def _external(walk: _OnnxWalk, span: ByteSpan) -> None:
    key = value = ""
    for item in walk.proto.fields(span):
        if item.wire == BYTES and item.number == 1:
            key = walk.proto.text(item.span)
        elif item.wire == BYTES and item.number == 2:
            value = walk.proto.text(item.span)
    if key == "location":
        _check_location(walk, value, span.start)
    elif key not in _KEYS:
        walk.context.find(EXTERNAL_KEY, f"the key {quote(key)} with the value {quote(value)}", offset=span.start)
    elif key == "basepath" and find_escape(value):
        _check_location(walk, value, span.start)
    elif key in ("offset", "length") and not (value.isascii() and value.isdigit() and len(value) < 20):
        walk.context.find(SIZE, f"external data whose {key} is {quote(value)}", offset=span.start)


def _check_location(walk: _OnnxWalk, value: str, at: int) -> None:
    reason = "is empty" if not value else find_escape(value)
    if reason:
        walk.context.find(EXTERNAL, f"weights are in {quote(value)}, which {reason}", offset=at)
