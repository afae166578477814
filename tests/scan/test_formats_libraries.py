"""Random files of the real libraries are clean; samples replace a library that is not installed."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.scan import Verdict
from tests.scan.formatmaker import scan_bytes

SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
TYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]


@settings(max_examples=60)
@given(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(TYPES)), max_size=6), st.dictionaries(NAMES, NAMES))
def test_any_safetensors_of_library_is_clean(tensors, metadata):
    library = pytest.importorskip("safetensors.numpy")
    numpy = pytest.importorskip("numpy")
    arrays = {name: numpy.zeros(shape, kind) for name, (shape, kind) in tensors.items() if name != "__metadata__"}
    found = scan_bytes(library.save(arrays, metadata or None))
    assert [one.rule.id for one in found.findings if not one.rule.id.startswith("jinja")] == []
    assert found.gaps == ()


@settings(max_examples=60)
@given(st.lists(st.tuples(SHAPES, st.sampled_from(TYPES)), max_size=5))
def test_any_onnx_of_library_is_clean(tensors):
    onnx = pytest.importorskip("onnx")
    numpy = pytest.importorskip("numpy")
    arrays = [
        onnx.numpy_helper.from_array(numpy.ones(shape, kind), f"t{number}")
        for number, (shape, kind) in enumerate(tensors)
    ]
    node = (
        onnx.helper.make_node("Constant", [], ["y"], value=arrays[0])
        if arrays
        else onnx.helper.make_node("Abs", ["x"], ["y"])
    )
    value = onnx.helper.make_tensor_value_info("x", 1, [None])
    found = scan_bytes(
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [value], arrays)).SerializeToString()
    )
    assert (found.verdict, found.formats) == (Verdict.CLEAN, ("ONNX",))


@settings(max_examples=60)
@given(st.data())
def test_any_hdf5_of_library_is_clean(tmp_path_factory, data):
    h5py = pytest.importorskip("h5py")
    numpy = pytest.importorskip("numpy")
    path = tmp_path_factory.mktemp("hdf5") / "x.h5"
    keras_lambda = json.dumps({"class_name": "__lambda__", "config": {"value": "4w=="}})
    count = data.draw(st.sampled_from([0, 1, 5, 9, 50, 400]))
    options = {
        "libver": data.draw(st.sampled_from(["earliest", "v108", "v110", "v112", "latest"])),
        "track_order": data.draw(st.booleans()),
    }
    with h5py.File(path, "w", **options) as file:
        groups = [file]
        for number in range(count):
            parent = groups[data.draw(st.integers(0, 3)) % len(groups)]
            groups.append(parent.create_group(f"group{number}"))
        for number in range(data.draw(st.sampled_from([0, 3, 30]))):
            shape = data.draw(SHAPES)
            options = {"compression": "gzip"} if shape and 0 not in shape and data.draw(st.booleans()) else {}
            group = groups[data.draw(st.integers(0, count))]
            group.create_dataset(f"data{number}", data=numpy.zeros(shape, data.draw(st.sampled_from(TYPES))), **options)
        group = groups[data.draw(st.integers(0, count))]
        for number in range(data.draw(st.sampled_from([0, 3, 30, 90]))):
            group.attrs[f"a{number}"] = (
                data.draw(st.sampled_from(["x" * number, number, [1.5, 2], ["a", "b"], b"c", None])) or 0
            )
        if hidden := data.draw(st.booleans()):
            group.attrs["model_config"] = keras_lambda
    found = scan_bytes(path.read_bytes())
    assert found.gaps == ()
    assert [one.rule.id for one in found.findings] == (["keras-lambda"] if hidden else [])


@settings(max_examples=40)
@given(st.lists(st.tuples(SHAPES.filter(bool), st.sampled_from(["float32", "float16", "int8", "int32"])), max_size=5))
def test_any_gguf_of_library_is_clean(tmp_path_factory, tensors):
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for number, (shape, kind) in enumerate(tensors):
        writer.add_tensor(f"t{number}", numpy.ones([one + 1 for one in shape], kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert scan_bytes(path.read_bytes()).verdict is Verdict.CLEAN
