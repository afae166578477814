"""Small graphs of ONNX, written by its own library, and a lock that has them."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from buildkit.digest import FileHash
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.triton.onnx_graph import OnnxGraph, read_graph

FLOAT, INT64, STRING, BOOL, COMPLEX = (
    TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL, TensorProto.COMPLEX64,
)  # fmt: skip
Tensors = dict[str, tuple[int, list[int | str | None] | None]]


def make_onnx(inputs: Tensors, outputs: Tensors, *, constants: tuple[str, ...] = (), weights: int = 0) -> bytes:
    """A graph with these tensors; ``constants`` are initializers, ``weights`` the bytes of one more."""
    nodes = [helper.make_node("Identity", [next(iter(inputs))], [name]) for name in outputs]
    initializers = [helper.make_tensor(name, FLOAT, [1], [1.0]) for name in constants]
    if weights:
        initializers.append(helper.make_tensor("weights", TensorProto.UINT8, [weights], bytes(weights), raw=True))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in outputs.items()],
        initializers,
    )
    return onnx.ModelProto.SerializeToString(helper.make_model(graph))


def make_graph(inputs: Tensors, outputs: Tensors) -> OnnxGraph:
    return read_graph(iter((make_onnx(inputs, outputs),)))


def locked(name: str, *paths: str, content: bytes = b"") -> Model:
    """A model of a lock with files at these paths."""
    files = (
        ModelFile(path=path, sha256=FileHash.of(content or path.encode()), size=len(content) or 9, source=path)
        for path in paths
    )
    return Model(name=name, version="1", source=RepoSource(path="m"), license="", files=tuple(files))
