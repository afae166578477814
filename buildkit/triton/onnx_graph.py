"""What an ONNX model takes and returns, read from its file as it streams by: weights are passed over, not kept.

Field numbers: github.com/onnx/onnx/blob/main/onnx/onnx.proto. The wire format:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from buildkit.lazy_dataclass import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST = 1 << 20  # bytes of a name, or of the description of a tensor
_MOST = 4096  # tensors that a model takes or returns, and dimensions of one


class GraphError(Exception):
    """A file is not an ONNX model, or describes what cannot be served; the message completes "FILE …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTensor:
    """An input or output: its element type as ONNX numbers it, and its dimensions.

    A dimension is a number, or the name of one that varies, empty without a name. ``dims`` is None for an unknown rank.
    """

    name: str
    element: int
    dims: tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxGraph:
    """The inputs that a caller must give, in the graph's order, and the outputs."""

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]


class _ForwardReader:
    """Reads a stream of chunks in order; ``at`` is the number of bytes that were passed."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")
        self.at = 0

    def has_more(self) -> bool:
        """Whether bytes are left."""
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._chunk = memoryview(chunk)
        return True

    def _take(self, most: int) -> memoryview:
        if not self.has_more():
            raise GraphError("ends in the middle of a field")
        taken = self._chunk[:most]
        self._chunk = self._chunk[len(taken) :]
        self.at += len(taken)
        return taken

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        if size > _LONGEST:
            raise GraphError(f"has a name or the description of a tensor of {size} bytes")
        parts: list[memoryview] = []
        while size:
            parts.append(self._take(size))
            size -= len(parts[-1])
        return b"".join(parts)

    def skip_to(self, end: int) -> None:
        """Pass over everything before the byte ``end``."""
        while self.at < end:
            self._take(end - self.at)

    def varint(self) -> int:
        """Return the next number."""
        value = shift = 0
        while shift < 70:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise GraphError("has a number of more than 64 bits")


def read_graph(chunks: Iterator[bytes]) -> OnnxGraph:
    """Return the interface of the model whose file ``chunks`` yield.

    Initializers are no inputs, even if an old model lists them there. Raises GraphError.
    """
    reader = _ForwardReader(chunks)
    inputs: list[GraphTensor] = []
    outputs: list[GraphTensor] = []
    constants: set[str] = set()
    for number, size in _fields(reader, None):
        if number != 7 or size is None:  # ModelProto.graph
            continue
        for part, length in _fields(reader, reader.at + size):
            if length is None:
                continue
            if part in (11, 12):  # GraphProto.input, output
                into = inputs if part == 11 else outputs
                into.append(_tensor(reader.read(length)))
                _limit(into)
            elif part == 5:  # GraphProto.initializer
                constants.add(_name(reader, reader.at + length))
            elif part == 15:  # GraphProto.sparse_initializer, whose values have the name
                constants |= {
                    _name(reader, reader.at + more)
                    for field, more in _fields(reader, reader.at + length)
                    if field == 1 and more is not None
                }
    if not outputs:
        raise GraphError("is not an ONNX model: it has no graph with outputs")
    return OnnxGraph(inputs=tuple(one for one in inputs if one.name not in constants), outputs=tuple(outputs))


def _fields(reader: _ForwardReader, end: int | None) -> Iterator[tuple[int, int | None]]:
    """Yield the number of each field up to ``end`` and, if it has a length, that: else it is passed over.

    What the caller leaves of a field is passed over, too.
    """
    while reader.at < end if end is not None else reader.has_more():
        tag = reader.varint()
        number, wire = tag >> 3, tag & 7
        size = reader.varint() if wire == _BYTES else None
        after = reader.at + (size if size is not None else {_FIXED64: 8, _FIXED32: 4}.get(wire, 0))
        if number == 0 or wire not in (_VARINT, _FIXED64, _BYTES, _FIXED32) or (end is not None and after > end):
            raise GraphError("is not an ONNX model")
        if wire == _VARINT:
            reader.varint()
            continue
        yield number, size
        reader.skip_to(after)


def _name(reader: _ForwardReader, end: int) -> str:
    name = ""
    for number, size in _fields(reader, end):
        if number == 8 and size is not None:  # TensorProto.name
            name = _text(reader.read(size))
    return name


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise GraphError("has a name that is not UTF-8") from None


def _limit(found: list[GraphTensor]) -> None:
    if len(found) > _MOST:
        raise GraphError(f"has more than {_MOST} inputs or outputs")


def _message(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield numbers and values of the fields of a small message."""
    reader = _ForwardReader(iter((data,)))
    while reader.has_more():
        tag = reader.varint()
        match tag & 7:
            case 0:
                yield tag >> 3, reader.varint()
            case 2:
                yield tag >> 3, reader.read(reader.varint())
            case 1 | 5 as wire:
                reader.read(8 if wire == _FIXED64 else 4)
            case _:
                raise GraphError("is not an ONNX model")


def _tensor(data: bytes) -> GraphTensor:
    """Read a ValueInfoProto."""
    name, kind = "", b""
    for number, value in _message(data):
        if isinstance(value, bytes) and number == 1:
            name = _text(value)
        elif isinstance(value, bytes) and number == 2:
            kind = value
    for number, value in _message(kind):
        if number == 1 and isinstance(value, bytes):  # TypeProto.tensor_type
            return _typed(name, value)
    raise GraphError(f"has `{name}`, which is no tensor: Triton serves tensors alone")


def _typed(name: str, data: bytes) -> GraphTensor:
    element, dims = 0, None
    for number, value in _message(data):
        if number == 1 and isinstance(value, int):
            element = value
        elif number == 2 and isinstance(value, bytes):  # TensorShapeProto
            read = (_dimension(dim) for part, dim in _message(value) if part == 1 and isinstance(dim, bytes))
            dims = tuple(islice(read, _MOST + 1))
            if len(dims) > _MOST:
                raise GraphError(f"has more than {_MOST} dimensions of a tensor")
    return GraphTensor(name=name, element=element, dims=dims)


def _dimension(data: bytes) -> int | str:
    found: int | str = ""
    for number, value in _message(data):
        if number == 1 and isinstance(value, int) and value < 1 << 63:
            found = value
        elif number == 2 and isinstance(value, bytes):
            found = _text(value)
    return found
