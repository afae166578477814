"""TensorFlow's graphs: SavedModel, GraphDef (frozen), MetaGraphDef (`.meta`), and Keras's part of a SavedModel.

Field numbers: tensorflow/core/protobuf/{saved_model,meta_graph,saved_object_graph}.proto,
core/framework/{graph,function,node_def}.proto, keras/protobuf/saved_metadata.proto.
"""

from __future__ import annotations

import re

from buildkit.scan.context import ScanContext
from buildkit.scan.formats import graphops, jsontext
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.danger import word_set
from buildkit.scan.formats.paths import find_escape
from buildkit.scan.formats.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    ByteSpan,
    ProtoReader,
    first_fields,
)
from buildkit.scan.formats.tensorflow_paths import GraphBody, PathTracer, message_parts, read_node
from buildkit.scan.source import ScanSource

_NAME = re.compile(rb"[A-Za-z0-9_.\\/^>-]{1,1000}")
_OP = re.compile(rb"[A-Za-z0-9_>]{1,200}")
ADDRESSED = word_set(
    "PrintV2 DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNanCount DebugNumericSummary DecodeProtoV2 EncodeProto "
    "FixedUnigramCandidateSampler"
)
_ADDRESSES = word_set("output_stream debug_urls descriptor_source tfdbg_run_id vocab_file")


def _is_node(source: ScanSource, span: ByteSpan) -> bool:
    fields = first_fields(source, 8, span)
    if not fields:
        return False
    texts = {
        item.number: source.read(item.span.start, min(item.span.size, 1001)) for item in fields if item.wire == BYTES
    }
    return bool(_NAME.fullmatch(texts.get(1, b"")) and _OP.fullmatch(texts.get(2, b"")))


def _is_graph(source: ScanSource, span: ByteSpan | None) -> bool:
    fields = first_fields(source, 4, span)
    if not fields:
        return False
    return any(item.number == 1 and item.wire == BYTES and _is_node(source, item.span) for item in fields)


def recognise_saved_model(head: bytes, source: ScanSource) -> bool:
    """Recognise a version and meta graphs."""
    if not head or head[0] not in (0x08, 0x12):
        return False
    fields = first_fields(source, 16)
    if not fields or {item.number for item in fields} - {1, 2}:
        return False
    metas = [item for item in fields if item.number == 2 and item.wire == BYTES]
    return any(_is_meta(source, item.span) for item in metas)


def _is_meta(source: ScanSource, span: ByteSpan | None) -> bool:
    fields = first_fields(source, 16, span)
    if not fields or any(item.number > 8 or item.wire != BYTES for item in fields):
        return False
    numbers = [item.number for item in fields]
    info = next((item for item in fields if item.number == 1), None)
    versioned = info is not None and any(
        item.number in (1, 2, 4, 5, 6) for item in first_fields(source, 8, info.span) or ()
    )
    graph = any(item.number == 2 and _is_graph(source, item.span) for item in fields)
    return (2 in numbers and graph) or (versioned and numbers.count(1) == 1 and len({*numbers} & {2, 3, 5, 7}) > 0)


def recognise_graph(head: bytes, source: ScanSource) -> bool:
    """Recognise nodes, each with a name and an operator, or a MetaGraphDef of such."""
    if not head or head[0] not in (0x0A, 0x12, 0x22):
        return False
    return _is_graph(source, None) or _is_meta(source, None)


def recognise_keras(head: bytes, source: ScanSource) -> bool:
    """Recognise `keras_metadata.pb`: nodes with Keras's identifiers."""
    if not head or head[0] != 0x0A or b"_tf_keras" not in head:
        return False
    fields = first_fields(source, 4)
    return bool(fields) and all(item.number == 1 and item.wire == BYTES for item in fields or ())


def scan_saved_model(context: ScanContext, source: ScanSource) -> None:
    """Walk every meta graph.

    Raises:
        MalformedContentError: it is not a SavedModel.
        LimitError: it has more fields than are read.
    """
    proto = ProtoReader(source, context.budget.limits.fields)
    for meta in message_parts(proto, proto.whole, 2):
        _meta(context, proto, meta.span)


def scan_graph(context: ScanContext, source: ScanSource) -> None:
    """Walk a graph, or a stand-alone meta graph.

    Raises:
        MalformedContentError: it is not a graph.
        LimitError: it has more fields than are read.
    """
    proto = ProtoReader(source, context.budget.limits.fields)
    if _is_meta(source, None):
        _meta(context, proto, proto.whole)
    else:
        _graph(context, proto, proto.whole).check()


def scan_keras(context: ScanContext, source: ScanSource) -> None:
    """Check the JSON of every Keras object of a SavedModel.

    Raises:
        MalformedContentError: it is not Keras's metadata.
        LimitError: there is more than is read.
    """
    proto = ProtoReader(source, context.budget.limits.fields)
    for node in message_parts(proto, proto.whole, 1):
        for item in message_parts(proto, node.span, 5):
            _json(context, proto, item.span)


def _json(context: ScanContext, proto: ProtoReader, span: ByteSpan) -> None:
    content = proto.window.read(span.start, min(span.size, context.budget.limits.json + 1))
    jsontext.check_text(context, content, base=span.start)


def _meta(context: ScanContext, proto: ProtoReader, span: ByteSpan) -> None:
    tracers = [_graph(context, proto, item.span) for item in message_parts(proto, span, 2)]
    for objects in message_parts(proto, span, 7):
        for tracer in tracers:
            tracer.bind(objects.span)
    for tracer in tracers:
        tracer.check()
    for item in message_parts(proto, span, 6, 7):
        if item.number == 6:
            for name in message_parts(proto, item.span, 2):
                _check_path(context, proto.text(name.span), "an asset", name.span.start)
        else:
            for node in message_parts(
                proto, item.span, 1
            ):  # SavedObject.user_object.metadata: Keras before TensorFlow 2.5
                for user in message_parts(proto, node.span, 4):
                    for text in message_parts(proto, user.span, 3):
                        _json(context, proto, text.span)


def _check_path(context: ScanContext, path: str, what: str, at: int) -> None:
    if reason := find_escape(path):
        context.find(graphops.PATH, f"{what} is at {quote(path)}, which {reason}", offset=at)


def _open_tracer(context: ScanContext, proto: ProtoReader, graph: ByteSpan) -> PathTracer:
    """Return a tracer that knows the names of the graph's functions."""
    names: set[str] = set()
    for library in message_parts(proto, graph, 2):
        for function in message_parts(proto, library.span, 1):
            names.add(_signature(proto, function.span)[0])
    return PathTracer(context, proto, frozenset(names))


def _signature(proto: ProtoReader, function: ByteSpan) -> tuple[str, list[str]]:
    """Return the name and the arguments of a FunctionDef."""
    name, arguments = "", []
    for signature in message_parts(proto, function, 1):
        for item in message_parts(proto, signature.span, 1, 2):
            if item.number == 1:
                name = proto.text(item.span, 1000)
            else:
                arguments += [proto.text(text.span, 1000) for text in message_parts(proto, item.span, 1)][-1:]
    return name, arguments


def _graph(context: ScanContext, proto: ProtoReader, span: ByteSpan) -> PathTracer:
    tracer = _open_tracer(context, proto, span)
    main = tracer.open()
    for item in message_parts(proto, span, 1, 2):
        if item.number == 1:
            _node(tracer, main, item.span)
            continue
        for function in message_parts(proto, item.span, 1):
            inner = tracer.open(*_signature(proto, function.span))
            for node in message_parts(proto, function.span, 3):
                _node(tracer, inner, node.span)
    return tracer


def _node(tracer: PathTracer, body: GraphBody, span: ByteSpan) -> None:
    node = read_node(tracer.proto, span)
    graphops.check_op(tracer.context, node.op, node.name)
    tracer.add(body, node, span)
    if node.op in ADDRESSED:
        for attribute in node.attributes:
            _check_address_attribute(tracer.context, tracer.proto, attribute, f"{node.op} {quote(node.name)}")


def _check_address_attribute(context: ScanContext, proto: ProtoReader, entry: ByteSpan, what: str) -> None:
    """Check attributes that are addresses: PrintV2's output, DebugIdentity's receivers, a schema, a vocabulary."""
    fields = list(message_parts(proto, entry, 1, 2))
    key = next((proto.text(item.span, 100) for item in fields if item.number == 1), "")
    if key not in _ADDRESSES:
        return
    for item in fields:
        if item.number != 2:
            continue
        texts = [proto.text(text.span, 1000) for text in message_parts(proto, item.span, 2)]
        for listed in message_parts(proto, item.span, 1):
            texts += [proto.text(text.span, 1000) for text in message_parts(proto, listed.span, 2)]
        for text in texts:
            if find_escape(text) and not text.startswith(("bytes://", "local://")):
                context.find(graphops.FILE_OP, f"{what} has its {key} at {quote(text)}")


def recognise_fingerprint(head: bytes, source: ScanSource) -> bool:
    """Recognise `fingerprint.pb`: a few checksums and a version."""
    if not head or source.size > 400 or head[0] not in (0x08, 0x09):
        return False
    fields = first_fields(source, 16)
    if not fields or len(fields) < 5:
        return False
    numbers = {item.number for item in fields}
    plain = all(
        item.wire in (VARINT, FIXED32, FIXED64) or (item.number >= 6 and item.span.size < 100) for item in fields
    )
    return plain and numbers <= {*range(1, 9)} and numbers >= {1, 2, 3, 4}


def scan_nothing(context: ScanContext, source: ScanSource) -> None:
    """Scan nothing: the content was recognised to its last byte, and runs nothing."""
    del context, source
