"""Small writers of model files, valid and hostile; the bytes are assembled by hand, without the formats' libraries."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable

from buildkit.findings import Severity
from buildkit.scan import BytesSource, Scan, ScanLimits, scan


def scan_bytes(content: bytes, limits: ScanLimits | None = None) -> Scan:
    return scan("model", BytesSource(content), limits=limits)


def rules(content: bytes) -> set[str]:
    """Return the rule ids of all findings, including notes."""
    return {finding.rule.id for finding in scan_bytes(content).findings}


def worst(content: bytes) -> Severity:
    return max((finding.severity for finding in scan_bytes(content).findings), default=Severity.NOTE)


# -- protocol buffers


def varint(value: int) -> bytes:
    out = bytearray()
    value &= 2**64 - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def pb(*fields: tuple[int, int | str | bytes | float]) -> bytes:
    """A message: numbers become varints, texts and bytes what they are, floats 32 bits."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            content = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(content)) + content
    return out


def onnx(*nodes: bytes, tensors: Iterable[bytes] = (), more: bytes = b"") -> bytes:
    graph = pb(*((1, node) for node in nodes), (2, "g"), *((5, tensor) for tensor in tensors))
    return pb((1, 8), (2, "test"), (7, graph), (8, pb((1, ""), (2, 17)))) + more


def onnx_node(op: str, domain: str = "", attributes: Iterable[bytes] = ()) -> bytes:
    return pb((1, "x"), (2, "y"), (4, op), *((5, one) for one in attributes), *([(7, domain)] if domain else []))


def onnx_tensor(location: str | None = None, dims: tuple[int, ...] = (2, 3), raw: bytes | None = None,
                keys: tuple[tuple[str, str], ...] = ()) -> bytes:  # fmt: skip
    fields: list[tuple[int, int | str | bytes]] = [*((1, one) for one in dims), (2, 1), (8, "w")]
    if location is None:
        fields.append((9, bytes(24) if raw is None else raw))
    else:
        entries = (("location", location), ("offset", "0"), ("length", "24"), *keys)
        fields += [(13, pb((1, key), (2, value))) for key, value in entries]
        fields.append((14, 1))
    return pb(*fields)


def graph_node(name: str, op: str, inputs: Iterable[str] = (), text: str | Iterable[str] | None = None,
               separator: str | None = None, calls: str | None = None) -> bytes:  # fmt: skip
    fields: list[tuple[int, int | str | bytes]] = [(1, name), (2, op), *((3, one) for one in inputs)]
    if text is not None:
        tensor = pb((1, 7), (2, b""), *((8, one) for one in ([text] if isinstance(text, str) else text)))
        fields.append((5, pb((1, "value"), (2, pb((8, tensor))))))
    if separator is not None:
        fields.append((5, pb((1, "separator"), (2, pb((2, separator))))))
    if calls is not None:
        fields.append((5, pb((1, "f"), (2, pb((10, pb((1, calls))))))))
    return pb(*fields)


def graph_function(name: str, arguments: Iterable[str], *nodes: bytes) -> bytes:
    signature = pb((1, name), *((2, pb((1, one))) for one in arguments))
    return pb((1, signature), *((3, node) for node in nodes))


def graph(*nodes: bytes, functions: Iterable[Iterable[bytes] | bytes] = ()) -> bytes:
    made = [one if isinstance(one, bytes) else graph_function("f", (), *one) for one in functions]
    return pb(*((1, node) for node in nodes), *((2, pb((1, one))) for one in made), (4, pb((1, 1882))))


def saved_model(content: bytes, *, assets: Iterable[str] = (), metadata: str | None = None,
                objects: bytes | None = None) -> bytes:  # fmt: skip
    info = pb((4, "serve"), (5, "2.19.0"))
    meta: list[tuple[int, int | str | bytes]] = [(1, info), (2, content)]
    meta += [(6, pb((1, pb((1, "x:0"))), (2, name))) for name in assets]
    if metadata is not None:
        meta.append((7, pb((1, pb((4, pb((1, "_tf_keras_layer"), (3, metadata))))))))
    if objects is not None:
        meta.append((7, objects))
    return pb((1, 1), (2, pb(*meta)))


# -- tensors


def safetensors(header: dict[str, object] | str, data: bytes = b"", length: int | None = None) -> bytes:
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start: int, end: int, shape: list[int] | None = None, dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def gguf_text(value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(content)) + content


def gguf(values: dict[str, str | int] | None = None, tensors: tuple[tuple[str, tuple[int, ...], int, int], ...] = (),
         data: bytes = b"", version: int = 3) -> bytes:  # fmt: skip
    """Tensors are name, shape, type, offset."""
    out = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(values or {}))
    for key, value in (values or {}).items():
        out += gguf_text(key)
        out += struct.pack("<I", 8) + gguf_text(value) if isinstance(value, str) else struct.pack("<II", 4, value)
    for name, shape, kind, offset in tensors:
        out += gguf_text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, offset)
    return out + bytes(-len(out) % 32) + data


# -- HDF5, as its newer versions write it: superblock 2, object headers 2, everything in one header


def _message(kind: int, content: bytes) -> bytes:
    return struct.pack("<BHB", kind, len(content), 0) + content


def hdf5_header(*messages: bytes) -> bytes:
    content = b"".join(messages)
    return b"OHDR" + struct.pack("<BBI", 2, 2, len(content)) + content + bytes(4)


def hdf5_attribute(name: str, value: bytes) -> bytes:
    datatype = struct.pack("<BBBBI", 0x13, 0, 0, 0, len(value))
    dataspace = struct.pack("<BBBB", 2, 0, 0, 0)
    key = name.encode() + b"\0"
    sizes = struct.pack("<BBHHHB", 3, 0, len(key), len(datatype), len(dataspace), 0)
    return _message(0x0C, sizes + key + datatype + dataspace + value)


def hdf5_link(name: str, address: int) -> bytes:
    return _message(0x06, struct.pack("<BBB", 1, 0, len(name)) + name.encode() + struct.pack("<Q", address))


def hdf5_external_link(name: str, file: str, path: str = "/x") -> bytes:
    value = b"\0" + file.encode() + b"\0" + path.encode() + b"\0"
    head = struct.pack("<BBBB", 1, 8, 64, len(name)) + name.encode()
    return _message(0x06, head + struct.pack("<H", len(value)) + value)


def hdf5(*messages: bytes, children: tuple[bytes, ...] = ()) -> bytes:
    """Return a file whose root has these messages and links to further objects made of messages."""
    links = sum(len(hdf5_link(f"o{n}", 0)) for n in range(len(children)))
    place = 48 + len(hdf5_header(*messages)) + links
    placed, bodies = [], b""
    for number, child in enumerate(children):
        placed.append(hdf5_link(f"o{number}", place + len(bodies)))
        bodies += hdf5_header(child)
    body = hdf5_header(*messages, *placed) + bodies
    top = b"\x89HDF\r\n\x1a\n" + struct.pack("<BBBBQQQQI", 2, 8, 8, 0, 0, 2**64 - 1, 48 + len(body), 48, 0)
    return top + body


def hdf5_dims(*dims: int) -> bytes:
    return _message(0x01, struct.pack(f"<BBBB{len(dims)}Q", 2, len(dims), 0, 1, *dims))


def hdf5_datatype(width: int = 8) -> bytes:
    return _message(0x03, struct.pack("<BBBBI", 0x11, 0, 0, 0, width))


def hdf5_filters(*numbers: int) -> bytes:
    each = b"".join(struct.pack("<H", n) + bytes(6 if n >= 256 else 4) for n in numbers)
    return _message(0x0B, struct.pack("<BB", 2, len(numbers)) + each)


def hdf5_chunked() -> bytes:
    return _message(0x08, struct.pack("<BBBQ", 3, 2, 2, 2**64 - 1) + bytes(8))


# -- archives


def empty_zip_end(size: int = 0) -> bytes:
    """Return the end of a zip archive, as its readers look for it."""
    return b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, size, 0, 0)
