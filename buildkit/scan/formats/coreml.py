"""Core ML models: custom layers and models in a protocol buffer.

Field numbers: github.com/apple/coremltools/tree/main/mlmodel/format.
"""

from __future__ import annotations

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.paths import find_escape
from buildkit.scan.formats.protobuf import BYTES, VARINT, ByteSpan, ProtoReader, first_fields
from buildkit.scan.source import ScanSource

CUSTOM = Rule(
    id="coreml-custom",
    title="A Core ML model that needs native code",
    severity=Severity.NOTE,
    why="Custom layers and models are classes of the application that loads the model.",
    advice="Find out where that class comes from.",
)
LINKED = Rule(
    id="coreml-linked-model",
    title="A Core ML model that refers to another one",
    severity=Severity.MEDIUM,
    why="The model is read from a path that the file names.",
    advice="Scan that model too, or ask for one in a single file.",
)
_KINDS = frozenset({*range(200, 207), *range(300, 310), *range(400, 404), *range(500, 504), 550, 551, 555, 556, 560,
                    *range(600, 610), 900, *range(2000, 2010), 3000})  # fmt: skip
_NETWORKS = frozenset({303, 403, 500})
_CUSTOM_LAYER = 500
_PARTS = {200: (1,), 201: (1,), 202: (1,)}


def recognise(head: bytes, source: ScanSource) -> bool:
    """Recognise a version below 20, a description, and one of the kinds of model."""
    if head[:1] != b"\x08":
        return False
    fields = first_fields(source, 16)
    if not fields or fields[0].wire != VARINT or not 0 < fields[0].value < 20:
        return False
    return any(item.number in _KINDS and item.wire == BYTES for item in fields)


def scan(context: ScanContext, source: ScanSource) -> None:
    """Walk nested models, and the layers of networks.

    Raises:
        MalformedContentError: it is not a model.
        LimitError: there are more fields than are read.
    """
    proto = ProtoReader(source, context.budget.limits.fields)
    _model(context, proto, proto.whole, 0)


def _model(context: ScanContext, proto: ProtoReader, span: ByteSpan, depth: int) -> None:
    if depth > 32:
        context.gap("models nested deeper than 32", offset=span.start)
        return
    for item in proto.fields(span):
        if item.wire != BYTES:
            continue
        if item.number in _NETWORKS:
            _network(context, proto, item.span)
        elif item.number == 555:
            context.find(CUSTOM, f"a custom model {quote(_first_text(proto, item.span))}", offset=item.span.start)
        elif item.number == 556:
            name = _first_text(proto, item.span)
            severity = Severity.HIGH if find_escape(name) else None
            context.find(LINKED, f"it refers to {quote(name)}", offset=item.span.start, severity=severity)
        elif item.number in (200, 201, 202):
            _pipeline(context, proto, item.span, depth)


def _pipeline(context: ScanContext, proto: ProtoReader, span: ByteSpan, depth: int) -> None:
    for item in proto.fields(span):
        if item.wire == BYTES and item.number == 1:
            first = first_fields(proto.window.source, 1, item.span)
            if first and first[0].number == 1 and first[0].wire == BYTES:
                _pipeline(context, proto, item.span, depth + 1)  # a pipeline's classifier holds a pipeline
            else:
                _model(context, proto, item.span, depth + 1)


def _network(context: ScanContext, proto: ProtoReader, span: ByteSpan) -> None:
    for item in proto.fields(span):
        if item.wire != BYTES or item.number != 1:
            continue
        for part in proto.fields(item.span):
            if part.wire == BYTES and part.number == _CUSTOM_LAYER:
                context.find(CUSTOM, f"a custom layer {quote(_custom_class(proto, part.span))}", offset=part.span.start)


def _custom_class(proto: ProtoReader, span: ByteSpan) -> str:
    return next((proto.text(item.span) for item in proto.fields(span) if item.number == 10 and item.wire == BYTES), "")


def _first_text(proto: ProtoReader, span: ByteSpan) -> str:
    for item in proto.fields(span):
        if item.wire == BYTES:
            inner = first_fields(proto.window.source, 2, item.span)
            deeper = next((sub for sub in inner or () if sub.wire == BYTES), None)
            return proto.text(deeper.span if deeper and deeper.number < 100 and deeper.span.size else item.span, 300)
    return ""
