"""ONNX, TensorFlow, Core ML: graphs that reach out of themselves."""

import json

import pytest

from buildkit.findings import Severity
from buildkit.scan import ScanLimits, Verdict
from tests.scan.formatmaker import (
    empty_zip_end,
    graph,
    graph_node,
    look,
    onnx,
    onnx_node,
    onnx_tensor,
    pb,
    rules,
    saved_model,
    worst,
)


def _within(*nodes: bytes) -> bytes:
    """An attribute that is a graph."""
    return pb((1, "body"), (6, pb(*((1, node) for node in nodes))))


def test_honest_onnx_is_clean():
    found = look(onnx(onnx_node("Add"), onnx_node("Gelu", "com.microsoft"), tensors=[onnx_tensor()]))
    assert (found.verdict, found.formats) == (Verdict.CLEAN, ("ONNX",))


def test_weights_beside_the_model_are_fine():
    assert look(onnx(onnx_node("Add"), tensors=[onnx_tensor("sub/model.weights")])).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../x",
        "sub/../../x",
        "..\\x",
        "\\\\host\\x",
        "C:\\x",
        "C:x",
        "file:///x",
        "https://x/y",
        "a\0b",
        "",
        "~/x",
    ],
)
def test_weights_elsewhere_are_found(location):
    assert worst(onnx(onnx_node("Add"), tensors=[onnx_tensor(location)])) is Severity.HIGH


def test_weights_elsewhere_are_found_wherever_a_tensor_is():
    evil = onnx_tensor("../x")
    places = {
        "attribute": onnx(onnx_node("Constant", attributes=[pb((1, "value"), (5, evil))])),
        "list": onnx(onnx_node("Constant", attributes=[pb((1, "values"), (10, evil))])),
        "sparse": onnx(onnx_node("Constant", attributes=[pb((1, "v"), (22, pb((1, evil))))])),
        "sparse initializer": pb((1, 8), (7, pb((15, pb((1, onnx_tensor()), (2, evil))))), (8, pb((2, 17)))),
        "branch": onnx(onnx_node("If", attributes=[_within(onnx_node("C", attributes=[pb((5, evil))]))])),
        "function": onnx(
            onnx_node("Add"), more=pb((25, pb((1, "f"), (7, onnx_node("C", attributes=[pb((5, evil))])))))
        ),
        "training": onnx(onnx_node("Add"), more=pb((20, pb((1, pb((5, evil))))))),
        "second graph": onnx(onnx_node("Add"), more=pb((7, pb((5, evil))))),
    }
    for where, content in places.items():
        assert rules(content) == {"onnx-external-path"}, where


def test_keys_that_are_set_as_attributes_are_found():
    assert rules(onnx(onnx_node("Add"), tensors=[onnx_tensor("w", keys=(("__class__", "x"),))])) == {
        "onnx-external-key"
    }


@pytest.mark.parametrize(("key", "value"), [("length", "-1"), ("offset", "1e9"), ("length", "9" * 30)])
def test_impossible_extents_are_found(key, value):
    assert rules(onnx(onnx_node("Add"), tensors=[onnx_tensor("w", keys=((key, value),))])) == {"onnx-tensor-size"}


@pytest.mark.parametrize(("dims", "raw"), [((2, 3), 23), ((2**31, 2**31), 24), ((-1, 6), 24), ((0,), 4)])
def test_sizes_that_do_not_fit_are_found(dims, raw):
    assert rules(onnx(onnx_node("Add"), tensors=[onnx_tensor(dims=dims, raw=bytes(raw))])) == {"onnx-tensor-size"}


def test_custom_domains_are_found_at_any_depth():
    assert rules(onnx(onnx_node("Evil", "evil.ops"))) == {"onnx-custom-domain"}
    nested = _within(onnx_node("Loop", attributes=[_within(onnx_node("Evil", "evil.ops"))]))
    assert rules(onnx(onnx_node("If", attributes=[nested]))) == {"onnx-custom-domain"}


def test_functions_of_the_model_itself_are_no_custom_operators():
    function = pb((1, "F"), (7, onnx_node("Relu")), (10, "my.functions"))
    assert look(onnx(onnx_node("F", "my.functions"), more=pb((25, function)))).verdict is Verdict.CLEAN


@pytest.mark.parametrize(("op", "domain"), [("PythonOp", "com.microsoft"), ("PyOp", "ai.onnx.contrib"), ("PyOp", "")])
def test_python_operators_are_found(op, domain):
    assert worst(onnx(onnx_node(op, domain))) is Severity.HIGH


def test_compiled_parts_are_no_verdict_and_their_paths_are_checked():
    inside = [pb((1, "embed_mode"), (3, 1)), pb((1, "ep_cache_context"), (4, b"\0\1"))]
    outside = [pb((1, "embed_mode"), (3, 0)), pb((1, "ep_cache_context"), (4, "../../x.bin"))]
    assert look(onnx(onnx_node("EPContext", "com.microsoft", inside))).verdict is Verdict.PARTIAL
    assert rules(onnx(onnx_node("EPContext", "com.microsoft", outside))) == {"onnx-external-path"}


def test_graphs_nested_without_end_and_without_number_are_no_verdict():
    node = onnx_node("If")
    for _ in range(80):
        node = onnx_node("If", attributes=[_within(node)])
    assert look(onnx(node)).verdict is Verdict.PARTIAL
    assert look(onnx(*[onnx_node("Add")] * 100), ScanLimits(fields=200)).verdict is Verdict.PARTIAL


def test_cut_off_onnx_is_no_verdict():
    content = onnx(onnx_node("Add"), tensors=[onnx_tensor()])
    assert look(content + b"\x3a\xff\x01").verdict is Verdict.PARTIAL


def test_onnx_with_an_archive_behind_it_is_found():
    assert "zip-polyglot" in rules(onnx(onnx_node("Add"), more=pb((14, bytes(30) + empty_zip_end()))))


CLEAN_GRAPH = graph(
    graph_node("saver/prefix", "Placeholder"),
    graph_node("shards", "Const", text="_temp/part"),
    graph_node("save", "SaveV2", ["saver/prefix", "shards"]),
    graph_node("restore", "RestoreV2", ["saver/prefix"]),
    functions=[[graph_node("mul", "Mul", ["a", "b"])]],
)


def test_honest_graphs_are_clean():
    assert look(saved_model(CLEAN_GRAPH, assets=["vocab.txt"])).formats == ("SavedModel",)
    assert look(saved_model(CLEAN_GRAPH, assets=["vocab.txt"])).verdict is Verdict.CLEAN
    assert look(CLEAN_GRAPH).verdict is Verdict.CLEAN
    assert look(CLEAN_GRAPH).formats == ("TensorFlow graph",)


@pytest.mark.parametrize(
    ("op", "rule"),
    [
        ("ReadFile", "tensorflow-file-op"),
        ("WriteFile", "tensorflow-file-op"),
        ("MatchingFiles", "tensorflow-file-op"),
        ("TextLineDataset", "tensorflow-file-op"),
        ("SqlDataset", "tensorflow-file-op"),
        ("PyFunc", "tensorflow-python-op"),
        ("PyFuncStateless", "tensorflow-python-op"),
        ("EagerPyFunc", "tensorflow-python-op"),
        ("RpcCall", "tensorflow-remote-op"),
        ("Abort", "tensorflow-remote-op"),
    ],
)
def test_operators_that_reach_out_are_found_in_graphs_and_functions(op, rule):
    node = graph_node("n", op)
    meta = pb((1, pb((4, "serve"), (5, "1.15.0"))), (2, graph(graph_node("a", "Const"), node)))
    text = f'node {{\n  name: "n"\n  op: "{op}"\n}}\n'.encode()
    for content in (graph(node), saved_model(graph(node)), saved_model(graph(functions=[[node]])), meta, text):
        assert rules(content) == {rule}


@pytest.mark.parametrize("path", ["/etc/cron.d/x", "../../x", "gs://bucket/x", "C:\\x", "~/x"])
def test_checkpoints_at_a_place_of_the_models_choice_are_found(path):
    nodes = (graph_node("where", "Const", text=path), graph_node("s", "SaveV2", ["where"]))
    assert rules(saved_model(graph(*nodes))) == {"tensorflow-path"}
    assert rules(saved_model(graph(functions=[nodes]))) == {"tensorflow-path"}
    assert rules(saved_model(CLEAN_GRAPH, assets=[path])) == {"tensorflow-path"}


def test_printing_into_files_is_found():
    def printing(stream: str) -> bytes:
        return graph(graph_node("p", "PrintV2") + pb((5, pb((1, "output_stream"), (2, pb((2, stream)))))))

    assert rules(printing("file:///etc/x")) == {"tensorflow-file-op"}
    assert rules(printing("stderr")) == set()


LAMBDA = json.dumps({"class_name": "Lambda", "config": {"name": "l", "function": ["4wE=", None, None]}})


def test_keras_inside_a_saved_model_is_looked_at():
    metadata = pb((1, pb((2, 1), (3, "root.layer"), (4, "_tf_keras_layer"), (5, LAMBDA))))
    assert rules(metadata) == {"keras-lambda"}
    assert rules(saved_model(CLEAN_GRAPH, metadata=LAMBDA)) == {"keras-lambda"}
    assert (
        look(pb((1, pb((4, "_tf_keras_layer"), (5, '{"class_name": "Dense", "config": {}}'))))).verdict is Verdict.CLEAN
    )


def test_custom_parts_of_core_ml_are_told():
    layer = pb((1, "l"), (500, pb((10, "EvilLayer"))))
    network = pb((1, 4), (2, pb((1, pb((1, "x"))))), (500, pb((1, layer))))
    assert rules(network) == {"coreml-custom"}
    assert look(network).verdict is Verdict.CLEAN
    assert rules(pb((1, 4), (202, pb((1, network))))) == {"coreml-custom"}
    linked = pb((1, 4), (2, b""), (556, pb((1, pb((1, pb((1, "../../other.mlmodelc"))))))))
    assert worst(linked) is Severity.HIGH
