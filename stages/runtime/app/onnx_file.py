"""As much of ONNX's file format as it takes to write a small graph again: protobuf's wire format.

Field numbers are those of onnx/onnx.proto. The `onnx` package does the same, and would add 17 MB to the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[np.generic]]
Attributes = Mapping[str, int | str]

_MODEL_GRAPH = 7
_NODE, _GRAPH_NAME, _INITIALIZER, _INPUT, _OUTPUT = 1, 2, 5, 11, 12  # of GraphProto
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_DIMENSIONS, _TYPE, _TENSOR_NAME, _RAW = 1, 2, 8, 9  # of TensorProto
_ATTRIBUTE_NAME, _INTEGER, _STRING, _ATTRIBUTE_TYPE = 1, 3, 4, 20
_FLOAT, _INT64 = 1, 7
_IS_INTEGER, _IS_STRING = 2, 3
_TYPES = {"float32": _FLOAT, "int64": _INT64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operator, with the names of what it takes and gives."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model: its operators and weights; `head` and `ends` are the fields of model and graph that are kept as is."""

    nodes: tuple[Node, ...]
    weights: Weights
    head: bytes
    ends: bytes


def parse_model(data: bytes) -> Model:
    """Return a model from its file's bytes; weights of other types than float32 are left out.

    Raises:
        ValueError: the bytes are no model.
    """
    nodes, weights, head, ends = list[Node](), dict[str, NDArray[np.generic]](), b"", b""
    for number, value in _read(data):
        if number != _MODEL_GRAPH:
            head += _write(number, value)
            continue
        for part, content in _read(_bytes(value)):
            if part == _NODE:
                nodes.append(_parse_node(_bytes(content)))
            elif part == _INITIALIZER:
                weights.update(_parse_weight(_bytes(content)))
            elif part in (_INPUT, _OUTPUT):
                ends += _write(part, content)
    return Model(nodes=tuple(nodes), weights=weights, head=head, ends=ends)


def render_model(like: Model, nodes: Iterable[bytes], weights: Weights) -> bytes:
    """Return the bytes of a model with the inputs and outputs of another."""
    graph = b"".join(_write(_NODE, node) for node in nodes) + _write(_GRAPH_NAME, b"products")
    graph += b"".join(_write(_INITIALIZER, _render_weight(name, value)) for name, value in weights.items())
    return like.head + _write(_MODEL_GRAPH, graph + like.ends)


def render_node(operator: str, inputs: Iterable[str], outputs: Iterable[str], attributes: Attributes) -> bytes:
    """Return an operator's bytes; its attributes are integers and words."""
    fields = [*((_NODE_INPUT, one) for one in inputs), *((_NODE_OUTPUT, one) for one in outputs)]
    encoded = b"".join(_write(number, text.encode()) for number, text in (*fields, (_NODE_OPERATOR, operator)))
    for name, value in attributes.items():
        number, kind = (_INTEGER, _IS_INTEGER) if isinstance(value, int) else (_STRING, _IS_STRING)
        content = value if isinstance(value, int) else value.encode()
        attribute = _write(_ATTRIBUTE_NAME, name.encode()) + _write(number, content)
        encoded += _write(_NODE_ATTRIBUTE, attribute + _write(_ATTRIBUTE_TYPE, kind))
    return encoded


def _parse_node(data: bytes) -> Node:
    fields = [(number, value.decode()) for number, value in _read(data) if isinstance(value, bytes) and number <= 4]
    return Node(
        operator=next((text for number, text in fields if number == _NODE_OPERATOR), ""),
        inputs=tuple(text for number, text in fields if number == _NODE_INPUT),
        outputs=tuple(text for number, text in fields if number == _NODE_OUTPUT),
    )


def _parse_weight(data: bytes) -> Weights:
    shape, kind, name, raw = list[int](), 0, "", b""
    for number, value in _read(data):
        if number == _DIMENSIONS:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif number == _TYPE:
            kind = int(value)
        elif number == _TENSOR_NAME:
            name = _bytes(value).decode()
        elif number == _RAW:
            raw = _bytes(value)
    return {name: np.frombuffer(raw, "<f4").reshape(shape)} if kind == _FLOAT and raw else {}


def _render_weight(name: str, value: NDArray[np.generic]) -> bytes:
    shape = b"".join(_write(_DIMENSIONS, size) for size in value.shape)
    raw = np.ascontiguousarray(value).tobytes()
    return shape + _write(_TYPE, _TYPES[value.dtype.name]) + _write(_TENSOR_NAME, name.encode()) + _write(_RAW, raw)


def _read(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield numbers and values of a message's fields."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if tag & 7 != 2:
            raise ValueError(f"wire type {tag & 7} at byte {at}")
        size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError(f"{size} bytes at byte {at} are more than there are")
        yield tag >> 3, data[at : at + size]
        at += size


def _write(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    return _number(number << 3 | 2) + _number(len(value)) + value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"a number at byte {at} does not end")
        found |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return found, at


def _varints(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message is expected")  # noqa: TRY004 - of a file's content
    return value
