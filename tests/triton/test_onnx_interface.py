"""What a model takes and returns, read from its file without a library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from onnx import TensorProto, helper

from buildkit.triton.onnx_graph import GraphError, GraphTensor, read_graph
from tests.triton.graphs import BOOL, FLOAT, INT64, STRING, make_onnx


def read(data: bytes, chunk: int = 1 << 20) -> tuple[tuple[GraphTensor, ...], tuple[GraphTensor, ...]]:
    graph = read_graph(data[at : at + chunk] for at in range(0, len(data), chunk))
    return graph.inputs, graph.outputs


def test_names_types_and_dimensions_are_those_of_the_graph() -> None:
    data = make_onnx(
        {"x": (FLOAT, [None, 3, "width"]), "rate": (INT64, []), "any": (STRING, None)}, {"y": (BOOL, ["n", 2])}
    )
    for chunk in (1, 7, 1 << 20):
        assert read(data, chunk) == (
            (
                GraphTensor(name="x", element=FLOAT, dims=("", 3, "width")),
                GraphTensor(name="rate", element=INT64, dims=()),
                GraphTensor(name="any", element=STRING, dims=None),
            ),
            (GraphTensor(name="y", element=BOOL, dims=("n", 2)),),
        )


def test_initializers_are_no_inputs() -> None:
    tensors = {"x": (FLOAT, [1]), "weight": (FLOAT, [1])}
    inputs, _ = read(make_onnx(tensors, {"y": (FLOAT, [1])}, constants=("weight",)))
    assert [one.name for one in inputs] == ["x"]


def test_weights_pass_by_in_chunks_and_are_not_kept() -> None:
    data = make_onnx({"x": (FLOAT, [1])}, {"y": (FLOAT, [1])}, weights=3 << 20)

    class Counting:
        largest = 0

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(data), 65536):
            Counting.largest = max(Counting.largest, at)
            yield data[at : at + 65536]

    assert read_graph(chunks()).inputs[0].name == "x"
    assert Counting.largest + 65536 >= len(data) > 3 << 20, "inputs stand behind the weights"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not an ONNX model: it has no graph"),
        (b"\x08\x09", "is not an ONNX model: it has no graph"),
        (b"PK\x03\x04" + bytes(40), "is not an ONNX model"),
        (make_onnx({"x": (FLOAT, [1])}, {"y": (FLOAT, [1])})[:-3], "ends in the middle of a field"),
        (
            b"\x3a\x80\x80\x80\x80\x10" + b"\x5a\xff\xff\xff\x07",
            "has a name or the description of a tensor of 16777215 bytes",
        ),
        (b"\x08" + b"\xff" * 11, "more than 64 bits"),
    ],
)
def test_what_is_no_model_is_said(data: bytes, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        read(data)


def test_a_tensor_has_a_bounded_number_of_dimensions() -> None:
    with pytest.raises(GraphError, match="more than 4096 dimensions"):
        read(make_onnx({"x": (FLOAT, [1] * 5000)}, {"y": (FLOAT, [1])}))


def test_sequences_are_refused_by_name() -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    sequence = helper.make_value_info("list", helper.make_sequence_type_proto(tensor))
    out = helper.make_tensor_value_info("y", FLOAT, [1])
    graph = helper.make_graph([helper.make_node("SequenceAt", ["list", "i"], ["y"])], "g", [sequence], [out])
    with pytest.raises(GraphError, match="`list`, which is no tensor"):
        read(helper.make_model(graph).SerializeToString())
