"""TensorFlow's graphs: SavedModel, GraphDef (frozen), MetaGraphDef (`.meta`), and Keras's part of a SavedModel.

Field numbers: tensorflow/core/protobuf/{saved_model,meta_graph,saved_object_graph}.proto,
core/framework/{graph,function,node_def}.proto, keras/protobuf/saved_metadata.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

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
    ProtoField,
    ProtoReader,
    first_fields,
)
from buildkit.scan.source import ScanSource

_NAME = re.compile(rb"[A-Za-z0-9_.\\/^>-]{1,1000}")
_OP = re.compile(rb"[A-Za-z0-9_>]{1,200}")
_CHECKPOINTS = word_set(
    "Save SaveV2 Restore RestoreV2 RestoreSlice MergeV2Checkpoints ShardedFilename ShardedFilespec "
    "InitializeTableFromTextFile InitializeTableFromTextFileV2"
)
_ABSOLUTE = re.compile(r"(?:[/\\~]|[A-Za-z]:[/\\]|[a-z][a-z0-9+.-]*://|(?:.*[/\\])?\.\.(?:[/\\]|$))")


@dataclass(slots=True)
class _Graph:
    """The contents of one graph or function: text constants, and operators that use them as paths."""

    texts: dict[str, str] = field(default_factory=dict)
    uses: list[tuple[str, str, list[str]]] = field(default_factory=list)


def _parts(proto: ProtoReader, span: ByteSpan, *numbers: int) -> Iterator[ProtoField]:
    for item in proto.fields(span):
        if item.wire == BYTES and item.number in numbers:
            yield item


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
    for meta in _parts(proto, proto.whole, 2):
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
        _graph(context, proto, proto.whole)


def scan_keras(context: ScanContext, source: ScanSource) -> None:
    """Check the JSON of every Keras object of a SavedModel.

    Raises:
        MalformedContentError: it is not Keras's metadata.
        LimitError: there is more than is read.
    """
    proto = ProtoReader(source, context.budget.limits.fields)
    for node in _parts(proto, proto.whole, 1):
        for item in _parts(proto, node.span, 5):
            _json(context, proto, item.span)


def _json(context: ScanContext, proto: ProtoReader, span: ByteSpan) -> None:
    content = proto.window.read(span.start, min(span.size, context.budget.limits.json + 1))
    jsontext.check_text(context, content, base=span.start)


def _meta(context: ScanContext, proto: ProtoReader, span: ByteSpan) -> None:
    for item in _parts(proto, span, 2, 6, 7):
        if item.number == 2:
            _graph(context, proto, item.span)
        elif item.number == 6:
            for name in _parts(proto, item.span, 2):
                _check_path(context, proto.text(name.span), "an asset", name.span.start)
        else:
            for node in _parts(proto, item.span, 1):  # SavedObject.user_object.metadata: Keras before TensorFlow 2.5
                for user in _parts(proto, node.span, 4):
                    for text in _parts(proto, user.span, 3):
                        _json(context, proto, text.span)


def _check_path(context: ScanContext, path: str, what: str, at: int) -> None:
    if reason := find_escape(path):
        context.find(graphops.PATH, f"{what} is at {quote(path)}, which {reason}", offset=at)


def _graph(context: ScanContext, proto: ProtoReader, span: ByteSpan) -> None:
    seen = _Graph()
    for item in _parts(proto, span, 1, 2):
        if item.number == 1:
            _node(context, proto, item.span, seen)
            continue
        for function in _parts(proto, item.span, 1):
            inner = _Graph()
            for node in _parts(proto, function.span, 3):
                _node(context, proto, node.span, inner)
            _check_uses(context, inner)
    _check_uses(context, seen)


def _node(context: ScanContext, proto: ProtoReader, span: ByteSpan, seen: _Graph) -> None:
    texts = {1: "", 2: ""}
    spans: dict[int, list[ByteSpan]] = {3: [], 5: []}
    for item in _parts(proto, span, 1, 2, 3, 5):
        if item.number in texts:
            texts[item.number] = proto.text(item.span, 1000)
        else:
            spans[item.number].append(item.span)
    name, op, attributes = texts[1], texts[2], spans[5]
    graphops.check_op(context, op, name)
    if op in _CHECKPOINTS:
        seen.uses.append((op, name, [proto.text(item, 1000) for item in spans[3][:8]]))
    elif op == "Const":
        for attribute in attributes:
            if text := _constant(proto, attribute):
                seen.texts[name] = text
    elif op in ("PrintV2", "DebugIdentity", "DebugIdentityV2", "DecodeProtoV2", "EncodeProto"):
        for attribute in attributes:
            _check_address_attribute(context, proto, attribute, f"{op} {quote(name)}")


def _constant(proto: ProtoReader, entry: ByteSpan) -> str:
    """Return the first text of a string constant: AttrValue.tensor.string_val."""
    for value in _parts(proto, entry, 2):
        for tensor in _parts(proto, value.span, 8):
            for text in _parts(proto, tensor.span, 8):
                return proto.text(text.span, 1000)
    return ""


def _check_address_attribute(context: ScanContext, proto: ProtoReader, entry: ByteSpan, what: str) -> None:
    """Check attributes that are addresses: PrintV2's output, DebugIdentity's receivers, a schema's source."""
    fields = list(_parts(proto, entry, 1, 2))
    key = next((proto.text(item.span, 100) for item in fields if item.number == 1), "")
    if key not in ("output_stream", "debug_urls", "descriptor_source", "tfdbg_run_id"):
        return
    for item in fields:
        if item.number != 2:
            continue
        texts = [proto.text(text.span, 1000) for text in _parts(proto, item.span, 2)]
        for listed in _parts(proto, item.span, 1):
            texts += [proto.text(text.span, 1000) for text in _parts(proto, listed.span, 2)]
        for text in texts:
            if ("://" in text and not text.startswith(("bytes://", "local://"))) or text.startswith("/"):
                context.find(graphops.FILE_OP, f"{what} has its {key} at {quote(text)}")


def _check_uses(context: ScanContext, seen: _Graph) -> None:
    for op, name, inputs in seen.uses:
        for item in inputs:
            text = seen.texts.get(item.lstrip("^").partition(":")[0])
            if text and _ABSOLUTE.match(text):
                context.find(graphops.PATH, f"{op} {quote(name)} uses {quote(text)}")


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
