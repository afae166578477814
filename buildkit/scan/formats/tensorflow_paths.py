"""Where a TensorFlow graph reads and writes checkpoints and vocabularies: their paths, followed back to constants.

A path may be joined of several texts, passed on by many operators, and handed to functions, by calls in the graph or by
what the object graph binds to them. What cannot be followed is unknown, never harmless.

Field numbers: tensorflow/core/protobuf/saved_object_graph.proto, core/framework/{function,node_def,attr_value}.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import field
from itertools import product
from typing import TypeAlias

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import graphops
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.danger import word_set
from buildkit.scan.formats.protobuf import BYTES, VARINT, ByteSpan, ProtoField, ProtoReader

Texts: TypeAlias = frozenset[str] | None
"""The texts that a tensor may hold; None if they cannot be known."""

PATH_INPUTS = {
    "Save": (0,),
    "SaveV2": (0,),
    "Restore": (0,),
    "RestoreV2": (0,),
    "RestoreSlice": (0,),
    "DTensorRestoreV2": (0,),
    "MergeV2Checkpoints": (0, 1),
    "InitializeTableFromTextFile": (1,),
    "InitializeTableFromTextFileV2": (1,),
    "InitializeTRTResource": (1,),
}
_FIRST = word_set(
    "Identity StopGradient PreventGradient Snapshot EnsureShape Reshape Squeeze ExpandDims StridedSlice Slice Gather "
    "GatherV2 GatherNd Enter RefEnter Exit RefExit Switch RefSwitch RefIdentity Tile BroadcastTo ReadVariableOp "
    "ShardedFilename ShardedFilespec Unpack Split Reverse ReverseV2 Transpose Print"
)  # what comes out is their first input, or a part of it, or a name that begins with it
_ANY = word_set("IdentityN Merge RefMerge Select SelectV2 Pack Concat ConcatV2")  # one of their inputs
_JOINS = word_set("StringJoin Add AddV2")
_CALLS = {"PartitionedCall": 0, "StatefulPartitionedCall": 0, "TPUPartitionedCall": 0, "While": 0, "StatelessWhile": 0,
          "If": 1, "StatelessIf": 1, "Case": 1, "StatelessCase": 1}  # fmt: skip  # inputs before the function's own
_ABSOLUTE = re.compile(r"(?:[/\\~]|[A-Za-z]:[/\\]|[a-z][a-z0-9+.-]*://|(?:.*[/\\])?\.\.(?:[/\\]|$))", re.DOTALL)
_STRING = 7  # DataType.DT_STRING
_CALLER = "?"  # stands for a text that the caller of the model supplies
_LONGEST = 1000
_TEXTS = 256
_DEPTH = 100


@dataclass(frozen=True, slots=True)
class GraphNode:
    """An operator of a graph; ``inputs`` are the data inputs."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: tuple[ByteSpan, ...]


@dataclass(slots=True)
class GraphBody:
    """The main graph, or a function with ``arguments``: where its nodes are, and those that use paths."""

    function: str = ""
    arguments: tuple[str, ...] = ()
    nodes: dict[str, ByteSpan] = field(default_factory=dict)
    uses: list[GraphNode] = field(default_factory=list)
    assigned: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallSite:
    """A node that calls a function: the inputs from ``skipped`` on are its arguments; None: any may be any."""

    body: GraphBody
    inputs: tuple[str, ...]
    skipped: int | None


def message_parts(proto: ProtoReader, span: ByteSpan, *numbers: int) -> Iterator[ProtoField]:
    """Yield the fields with these numbers that hold bytes."""
    for item in proto.fields(span):
        if item.wire == BYTES and item.number in numbers:
            yield item


def read_node(proto: ProtoReader, span: ByteSpan) -> GraphNode:
    """Return a NodeDef."""
    texts = {1: "", 2: ""}
    inputs: list[str] = []
    attributes: list[ByteSpan] = []
    for item in message_parts(proto, span, 1, 2, 3, 5):
        if item.number in texts:
            texts[item.number] = proto.text(item.span, _LONGEST)
        elif item.number == 5:
            attributes.append(item.span)
        elif not (text := proto.text(item.span, _LONGEST)).startswith("^"):  # others only order what is run
            inputs.append(text)
    return GraphNode(texts[1], texts[2], tuple(inputs), tuple(attributes))


@dataclass(slots=True)
class PathTracer:
    """Follows paths in a meta graph; ``add`` each node, then ``check``."""

    context: ScanContext
    proto: ProtoReader
    functions: frozenset[str]
    bodies: list[GraphBody] = field(default_factory=list)
    calls: dict[str, list[CallSite]] = field(default_factory=dict)
    bound: dict[str, tuple[Texts | str, ...]] = field(default_factory=dict)
    known: dict[tuple[int, str], Texts] = field(default_factory=dict)

    def open(self, function: str = "", arguments: Iterable[str] = ()) -> GraphBody:
        """Return a new body, to which nodes are added."""
        self.bodies.append(GraphBody(function, tuple(arguments)))
        return self.bodies[-1]

    def add(self, body: GraphBody, node: GraphNode, span: ByteSpan) -> None:
        """Add a node."""
        body.nodes[node.name] = span
        if node.op in PATH_INPUTS:
            body.uses.append(node)
        elif node.op in ("AssignVariableOp", "Assign") and len(node.inputs) > 1:
            body.assigned.setdefault(_plain(node.inputs[0]), []).append(node.inputs[1])
        if node.op in self.functions:
            self.calls.setdefault(node.op, []).append(CallSite(body, node.inputs, 0))
        for attribute in node.attributes:
            for name in self._called(attribute):
                site = CallSite(body, node.inputs, _CALLS.get(node.op))
                self.calls.setdefault(name, []).append(site)

    def _called(self, entry: ByteSpan) -> Iterator[str]:
        """Yield the functions that an attribute names: AttrValue.func, or AttrValue.list.func."""
        for value in message_parts(self.proto, entry, 2):
            for item in message_parts(self.proto, value.span, 1, 10):
                named = (item,) if item.number == 10 else message_parts(self.proto, item.span, 9)
                for function in named:
                    for name in message_parts(self.proto, function.span, 1):
                        yield self.proto.text(name.span, _LONGEST)

    def bind(self, objects: ByteSpan) -> None:
        """Read what a SavedObjectGraph binds to the last arguments of functions: names of constants' nodes."""
        kinds = [self._bindable(item.span) for item in message_parts(self.proto, objects, 1)]
        for entry in message_parts(self.proto, objects, 2):
            name, numbers = "", list[int]()
            for item in message_parts(self.proto, entry.span, 1, 2):
                if item.number == 1:
                    name = self.proto.text(item.span, _LONGEST)
                else:
                    numbers = list(self._bound_inputs(item.span))
            self.bound[name] = tuple(kinds[at] if at < len(kinds) else None for at in numbers)

    def _bindable(self, saved_object: ByteSpan) -> Texts | str:
        for item in message_parts(self.proto, saved_object, 5, 9):
            if item.number == 5:
                return frozenset({_CALLER})  # an asset, whose path is checked by itself
            for operation in message_parts(self.proto, item.span, 1):
                return self.proto.text(operation.span, _LONGEST)
        return None

    def _bound_inputs(self, concrete: ByteSpan) -> Iterator[int]:
        for item in self.proto.fields(concrete):
            if item.number != 2:
                continue
            if item.wire == VARINT:
                yield item.value
            elif item.wire == BYTES:
                yield from _packed(self.proto.window.read(item.span.start, min(item.span.size, 2**20)))

    def check(self) -> None:
        """Report each path that leaves the model's folder; one that is unknown is a gap."""
        for body in self.bodies:
            for node in body.uses:
                for at in PATH_INPUTS[node.op]:
                    if at < len(node.inputs):
                        self._check_use(body, node, node.inputs[at])

    def _check_use(self, body: GraphBody, node: GraphNode, reference: str) -> None:
        texts = self.texts(body, reference, 0)
        if texts is None:
            self.context.gap(f"the path that {node.op} {quote(node.name)} uses is computed, and cannot be followed")
            return
        for text in sorted(texts):
            if _ABSOLUTE.match(text):
                self.context.find(graphops.PATH, f"{node.op} {quote(node.name)} uses {quote(text)}")

    def texts(self, body: GraphBody, reference: str, depth: int) -> Texts:
        """Return the texts of an input of a node in ``body``."""
        name = _plain(reference)
        key = (id(body), name)
        if key not in self.known:
            self.known[key] = None  # for a loop, in which it depends on itself
            if depth < _DEPTH and name in body.arguments:
                self.known[key] = self._argument(body, body.arguments.index(name), depth + 1)
            elif depth < _DEPTH and name in body.nodes:
                self.known[key] = self._result(body, read_node(self.proto, body.nodes[name]), depth + 1)
        return self.known[key]

    def _argument(self, body: GraphBody, at: int, depth: int) -> Texts:
        """Return what calls and bindings pass; a function that nothing calls is the caller's."""
        bound = self.bound.get(body.function, ())
        place = at - (len(body.arguments) - len(bound))
        found: list[Texts] = []
        for site in self.calls.get(body.function, ()):
            first = None if site.skipped is None else at + site.skipped
            passed = site.inputs if first is None else site.inputs[first : first + 1]
            found += [self.texts(site.body, item, depth) for item in passed]
        if place >= 0:
            value = bound[place]
            found.append(self.texts(self.bodies[0], value, depth) if isinstance(value, str) else value)
        return _union(found) if found else frozenset({_CALLER})

    def _result(self, body: GraphBody, node: GraphNode, depth: int) -> Texts:
        op = node.op
        if op == "Const":
            return self._constant(node)
        if op == "Placeholder":
            return frozenset({_CALLER})
        if op in ("VarHandleOp", "VariableV2", "Variable"):
            values = body.assigned.get(node.name, [])
            return _union([self.texts(body, value, depth) for value in values]) if values else None
        inputs = [self.texts(body, item, depth) for item in node.inputs]
        if op == "PlaceholderWithDefault":
            return _union([*inputs[:1], frozenset({_CALLER})])
        if op in _FIRST and inputs:
            return inputs[0]
        if op in _ANY and inputs:
            return _union(inputs[1:] if op.startswith("Select") else inputs)
        if op in _JOINS:
            return _join(inputs, self._separator(node) if op == "StringJoin" else "")
        return None

    def _constant(self, node: GraphNode) -> Texts:
        """Return the texts of AttrValue.tensor.string_val; a text that is cut is unknown."""
        found: set[str] = set()
        for attribute in node.attributes:
            for value in message_parts(self.proto, attribute, 2):
                for tensor in message_parts(self.proto, value.span, 8):
                    if self._is_packed(tensor.span):
                        return None
                    for text in message_parts(self.proto, tensor.span, 8):
                        if text.span.size > _LONGEST or len(found) >= _TEXTS:
                            return None
                        found.add(self.proto.text(text.span, _LONGEST))
        return frozenset(found or {""})

    def _is_packed(self, tensor: ByteSpan) -> bool:
        """Return whether a tensor may have texts in `tensor_content`, where only its shape tells how many they are."""
        fields = list(self.proto.fields(tensor))
        kinds = [item.value for item in fields if item.number == 1 and item.wire == VARINT]
        content = any(item.number == 4 and item.wire == BYTES and item.span.size for item in fields)
        return content and kinds[-1:] in ([], [0], [_STRING])

    def _separator(self, node: GraphNode) -> str:
        """Return the attribute `separator`; of a field that occurs twice, the last counts."""
        separator = ""
        for attribute in node.attributes:
            parts = {item.number: item.span for item in message_parts(self.proto, attribute, 1, 2)}
            if 1 in parts and 2 in parts and self.proto.text(parts[1], 100) == "separator":
                for text in message_parts(self.proto, parts[2], 2):
                    separator = self.proto.text(text.span, _LONGEST)
        return separator


def _plain(reference: str) -> str:
    """Return the node of ``node:0`` (in a graph) or ``node:output:0`` (in a function)."""
    return reference.partition(":")[0]


def _union(values: Iterable[Texts]) -> Texts:
    merged: set[str] = set()
    for value in values:
        if value is None:
            return None
        merged |= value
    return frozenset(merged) if len(merged) <= _TEXTS else None


def _join(values: list[Texts], separator: str) -> Texts:
    known = [value for value in values if value is not None]
    count = 1
    for value in known:
        count *= max(len(value), 1)
    if len(known) < len(values) or count > _TEXTS:
        return None
    return frozenset(separator.join(parts) for parts in product(*known))


def _packed(content: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
