"""ONNX, TensorFlow and Core ML graphs that reach outside themselves."""

import json

import pytest

from buildkit.findings import Severity
from buildkit.scan import ScanLimits, Verdict
from buildkit.scan.formats.onnx import known_operators
from tests.scan.formatmaker import (
    empty_zip_end,
    graph,
    graph_function,
    graph_node,
    onnx,
    onnx_node,
    onnx_tensor,
    pb,
    rules,
    saved_model,
    scan_bytes,
    varint,
    worst,
)


def _within(*nodes: bytes) -> bytes:
    """An attribute that is a graph."""
    return pb((1, "body"), (6, pb(*((1, node) for node in nodes))))


def test_valid_onnx_is_clean():
    found = scan_bytes(onnx(onnx_node("Add"), onnx_node("Gelu", "com.microsoft"), tensors=[onnx_tensor()]))
    assert (found.verdict, found.formats) == (Verdict.CLEAN, ("ONNX",))


def test_onnx_weights_in_model_folder_are_clean():
    assert scan_bytes(onnx(onnx_node("Add"), tensors=[onnx_tensor("sub/model.weights")])).verdict is Verdict.CLEAN


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
def test_onnx_weights_outside_model_folder_are_found(location):
    assert worst(onnx(onnx_node("Add"), tensors=[onnx_tensor(location)])) is Severity.HIGH


def test_onnx_external_path_is_found_in_any_tensor():
    escaping = onnx_tensor("../x")
    places = {
        "attribute": onnx(onnx_node("Constant", attributes=[pb((1, "value"), (5, escaping))])),
        "list": onnx(onnx_node("Constant", attributes=[pb((1, "values"), (10, escaping))])),
        "sparse": onnx(onnx_node("Constant", attributes=[pb((1, "v"), (22, pb((1, escaping))))])),
        "sparse initializer": pb((1, 8), (7, pb((15, pb((1, onnx_tensor()), (2, escaping))))), (8, pb((2, 17)))),
        "branch": onnx(onnx_node("If", attributes=[_within(onnx_node("Constant", attributes=[pb((5, escaping))]))])),
        "function": onnx(
            onnx_node("Add"), more=pb((25, pb((1, "f"), (7, onnx_node("Constant", attributes=[pb((5, escaping))])))))
        ),
        "training": onnx(onnx_node("Add"), more=pb((20, pb((1, pb((5, escaping))))))),
        "second graph": onnx(onnx_node("Add"), more=pb((7, pb((5, escaping))))),
    }
    for where, content in places.items():
        assert rules(content) == {"onnx-external-path"}, where


def test_unknown_onnx_external_data_key_is_found():
    assert rules(onnx(onnx_node("Add"), tensors=[onnx_tensor("w", keys=(("__class__", "x"),))])) == {
        "onnx-external-key"
    }


@pytest.mark.parametrize(("key", "value"), [("length", "-1"), ("offset", "1e9"), ("length", "9" * 30)])
def test_impossible_onnx_external_extent_is_found(key, value):
    assert rules(onnx(onnx_node("Add"), tensors=[onnx_tensor("w", keys=((key, value),))])) == {"onnx-tensor-size"}


@pytest.mark.parametrize(("dims", "raw"), [((2, 3), 23), ((2**31, 2**31), 24), ((-1, 6), 24), ((0,), 4)])
def test_onnx_tensor_size_mismatch_is_found(dims, raw):
    assert rules(onnx(onnx_node("Add"), tensors=[onnx_tensor(dims=dims, raw=bytes(raw))])) == {"onnx-tensor-size"}


def test_onnx_custom_domain_is_found_at_any_depth():
    assert rules(onnx(onnx_node("Evil", "evil.ops"))) == {"onnx-custom-domain"}
    nested = _within(onnx_node("Loop", attributes=[_within(onnx_node("Evil", "evil.ops"))]))
    assert rules(onnx(onnx_node("If", attributes=[nested]))) == {"onnx-custom-domain"}


def _function(name: str, domain: str, *nodes: bytes, overload: str = "") -> bytes:
    """A model's field: a function."""
    texts = [(1, name), (10, domain), *([(13, overload)] if overload else [])]
    return pb((25, pb(*texts, *((7, node) for node in nodes or (onnx_node("Relu"),)))))


def test_onnx_model_functions_are_not_custom_operators():
    content = onnx(onnx_node("F", "my.functions"), more=_function("F", "my.functions"))
    assert scan_bytes(content).verdict is Verdict.CLEAN
    for domains in (("", "ai.onnx"), ("ai.onnx", "")):
        assert scan_bytes(onnx(onnx_node("F", domains[0]), more=_function("F", domains[1]))).verdict is Verdict.CLEAN
    both = onnx(onnx_node("F", "my.f") + pb((8, "a")), more=_function("F", "my.f", overload="a"))
    assert scan_bytes(both).verdict is Verdict.CLEAN


DECOY = _function("F", "evil.ops")
EVIL = onnx_node("Evil", "evil.ops")
CUSTOM = {
    "another operator of a function's domain": onnx(onnx_node("F", "evil.ops"), EVIL, more=DECOY),
    "function's name in another domain": onnx(onnx_node("F", "evil.other"), more=DECOY),
    "another overload of the function": onnx(onnx_node("F", "evil.ops") + pb((8, "b")), more=DECOY),
    "no overload of that name": onnx(onnx_node("F", "e"), more=_function("F", "e", overload="b")),
    "within a function": onnx(onnx_node("F", "evil.ops"), more=_function("F", "evil.ops", EVIL)),
    "within a branch of a function": onnx(
        onnx_node("F", "evil.ops"), more=_function("F", "evil.ops", onnx_node("If", attributes=[_within(EVIL)]))
    ),
    "in training": onnx(onnx_node("F", "evil.ops"), more=DECOY + pb((20, pb((2, pb((1, EVIL))))))),
    "in training's start": onnx(onnx_node("F", "evil.ops"), more=DECOY + pb((20, pb((1, pb((1, EVIL))))))),
    "function without operators": onnx(EVIL, more=pb((25, pb((1, "Evil"), (10, "evil.ops"))))),
    "function renamed by a second field": onnx(
        EVIL, more=pb((25, pb((1, "Evil"), (10, "evil.ops"), (7, onnx_node("Relu")), (1, "F"))))
    ),
    "operator renamed by a second field": onnx(onnx_node("F", "evil.ops") + pb((4, "Evil")), more=DECOY),
    "unknown operator of a standard domain": onnx(onnx_node("Evil")),
    "unknown operator of a domain of ONNX": onnx(onnx_node("Evil", "ai.onnx.ml")),
    "unknown operator of ONNX Runtime": onnx(onnx_node("Evil", "com.microsoft")),
    "any operator of PyTorch": onnx(onnx_node("ATen", "org.pytorch.aten")),
    "function that the exporter left out": onnx(onnx_node("aten_add", "pkg.onnxscript.torch_lib")),
}


@pytest.mark.parametrize("case", CUSTOM)
def test_onnx_operator_that_nobody_defines_is_found_whatever_its_domain(case):
    assert rules(CUSTOM[case]) == {"onnx-custom-domain"}


@pytest.mark.parametrize("name", ["F" * 5000, "F\xff"])
def test_onnx_name_that_cannot_be_compared_is_not_clean(name):
    content = onnx(onnx_node(name + "evil", "evil.ops"), more=_function(name, "evil.ops"))
    assert scan_bytes(content).verdict is not Verdict.CLEAN


def test_list_of_onnx_operators_has_those_of_the_installed_libraries():
    onnx_defs = pytest.importorskip("onnx.defs")
    runtime = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    schemas = [*onnx_defs.get_all_schemas_with_history(), *runtime.get_all_operator_schema()]
    missing = {(one.domain or "ai.onnx", one.name, "") for one in schemas} - known_operators()
    assert missing == set(), "add them to buildkit/scan/formats/onnx_operators.txt"


@pytest.mark.parametrize(("op", "domain"), [("PythonOp", "com.microsoft"), ("PyOp", "ai.onnx.contrib"), ("PyOp", "")])
def test_onnx_python_operator_is_found(op, domain):
    assert worst(onnx(onnx_node(op, domain))) is Severity.HIGH


def test_onnx_compiled_part_is_a_gap_and_its_path_is_checked():
    inside = [pb((1, "embed_mode"), (3, 1)), pb((1, "ep_cache_context"), (4, b"\0\1"))]
    outside = [pb((1, "embed_mode"), (3, 0)), pb((1, "ep_cache_context"), (4, "../../x.bin"))]
    assert scan_bytes(onnx(onnx_node("EPContext", "com.microsoft", inside))).verdict is Verdict.PARTIAL
    assert rules(onnx(onnx_node("EPContext", "com.microsoft", outside))) == {"onnx-external-path"}


def test_too_deep_or_too_many_onnx_graphs_are_a_gap():
    node = onnx_node("If")
    for _ in range(80):
        node = onnx_node("If", attributes=[_within(node)])
    assert scan_bytes(onnx(node)).verdict is Verdict.PARTIAL
    assert scan_bytes(onnx(*[onnx_node("Add")] * 100), ScanLimits(fields=200)).verdict is Verdict.PARTIAL


def test_truncated_onnx_is_not_clean():
    content = onnx(onnx_node("Add"), tensors=[onnx_tensor()])
    assert scan_bytes(content + b"\x3a\xff\x01").verdict is Verdict.PARTIAL


def test_onnx_with_zip_appended_is_found():
    assert "zip-polyglot" in rules(onnx(onnx_node("Add"), more=pb((14, bytes(30) + empty_zip_end()))))


CLEAN_GRAPH = graph(
    graph_node("saver/prefix", "Placeholder"),
    graph_node("shards", "Const", text="_temp/part"),
    graph_node("save", "SaveV2", ["saver/prefix", "shards"]),
    graph_node("restore", "RestoreV2", ["saver/prefix"]),
    functions=[[graph_node("mul", "Mul", ["a", "b"])]],
)


def test_valid_tensorflow_graph_is_clean():
    assert scan_bytes(saved_model(CLEAN_GRAPH, assets=["vocab.txt"])).formats == ("SavedModel",)
    assert scan_bytes(saved_model(CLEAN_GRAPH, assets=["vocab.txt"])).verdict is Verdict.CLEAN
    assert scan_bytes(CLEAN_GRAPH).verdict is Verdict.CLEAN
    assert scan_bytes(CLEAN_GRAPH).formats == ("TensorFlow graph",)


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
        ("RecordInput", "tensorflow-file-op"),
        ("DistributedSave", "tensorflow-file-op"),
        ("SnapshotChunkDataset", "tensorflow-file-op"),
        ("XlaCustomCallV2", "tensorflow-python-op"),
        ("RpcServerRegister", "tensorflow-remote-op"),
        ("Abort", "tensorflow-remote-op"),
        ("ImmutableConst", "tensorflow-file-op"),
        ("SerializeTRTResource", "tensorflow-file-op"),
    ],
)
def test_tensorflow_unsafe_operator_is_found_in_graphs_and_functions(op, rule):
    node = graph_node("n", op)
    meta = pb((1, pb((4, "serve"), (5, "1.15.0"))), (2, graph(graph_node("a", "Const"), node)))
    text = f'node {{\n  name: "n"\n  op: "{op}"\n}}\n'.encode()
    for content in (graph(node), saved_model(graph(node)), saved_model(graph(functions=[[node]])), meta, text):
        assert rules(content) == {rule}


@pytest.mark.parametrize("path", ["/etc/cron.d/x", "../../x", "gs://bucket/x", "C:\\x", "~/x"])
def test_tensorflow_absolute_checkpoint_path_is_found(path):
    nodes = (graph_node("where", "Const", text=path), graph_node("s", "SaveV2", ["where"]))
    assert rules(saved_model(graph(*nodes))) == {"tensorflow-path"}
    assert rules(saved_model(graph(functions=[nodes]))) == {"tensorflow-path"}
    assert rules(saved_model(CLEAN_GRAPH, assets=[path])) == {"tensorflow-path"}


WHERE = graph_node("where", "Const", text="/root/.ssh/authorized_keys")


def _writing(*nodes: bytes, path: str = "path") -> bytes:
    return graph(WHERE, *nodes, graph_node("s", "SaveV2", [path, "names"]))


WRITER = graph_function("write", ["x", "path"], graph_node("s", "SaveV2", ["path", "names:output:0"]))
BOUND = pb((1, pb((6, b""))), (1, pb((9, pb((1, "where"))))), (2, pb((1, "write"), (2, pb((2, 1))))))
FOLLOWED = {
    "identity": _writing(graph_node("path", "Identity", ["where:0"])),
    "many identities": _writing(*[graph_node(f"i{n}", "Identity", [f"i{n - 1}" if n else "where"]) for n in range(50)],
                                path="i49"),
    "list of identities": _writing(graph_node("path", "IdentityN", ["other", "where"]),
                                   graph_node("other", "Const", text="x")),
    "default of a placeholder": _writing(graph_node("path", "PlaceholderWithDefault", ["where"])),
    "choice": _writing(graph_node("path", "Select", ["if", "temp", "where"]), graph_node("if", "LogicalNot"),
                       graph_node("temp", "Const", text="_temp")),
    "parts": _writing(graph_node("a", "Const", text="/"), graph_node("b", "Const", text="root/x"),
                      graph_node("path", "StringJoin", ["a", "b"])),
    "sum of parts": _writing(graph_node("a", "Const", text="."), graph_node("b", "Const", text="./x"),
                             graph_node("path", "AddV2", ["a", "b"])),
    "separator": _writing(graph_node("a", "Const", text=""), graph_node("b", "Const", text="root"),
                          graph_node("path", "StringJoin", ["a", "b"], separator="/")),
    "below what the caller passes": _writing(graph_node("a", "Placeholder"), graph_node("b", "Const", text="/../../x"),
                                             graph_node("path", "StringJoin", ["a", "b"])),
    "second of several texts": _writing(graph_node("path", "Const", text=["ok", "/etc/x"])),
    "shards": _writing(graph_node("path", "ShardedFilename", ["where", "n", "m"])),
    "packed": graph(WHERE, graph_node("pack", "Pack", ["where"]), graph_node("m", "MergeV2Checkpoints", ["pack", "x"]),
                    graph_node("x", "Placeholder")),
    "variable": _writing(graph_node("v", "VarHandleOp"), graph_node("set", "AssignVariableOp", ["v", "where"]),
                         graph_node("path", "ReadVariableOp", ["v"])),
    "argument of a call": graph(WHERE, graph_node("c", "StatefulPartitionedCall", ["y", "where"], calls="write"),
                                functions=[WRITER]),
    "argument of a call by name": graph(WHERE, graph_node("c", "write", ["y", "where"]), functions=[WRITER]),
    "argument of a condition": graph(WHERE, graph_node("c", "If", ["if", "y", "where"], calls="write"),
                                     functions=[WRITER]),
    "argument of a dataset": graph(WHERE, graph_node("c", "MapDataset", ["where"], calls="write"), functions=[WRITER]),
    "argument of a call of a call": graph(
        WHERE, graph_node("c", "PartitionedCall", ["where"], calls="outer"),
        functions=[WRITER, graph_function("outer", ["p"], graph_node("i", "Identity", ["p"]),
                                          graph_node("c", "PartitionedCall", ["i", "i:output:0"], calls="write"))]),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLLOWED)
def test_tensorflow_path_is_followed_to_its_constants(case):
    assert rules(FOLLOWED[case]) == {"tensorflow-path"}
    assert rules(saved_model(FOLLOWED[case])) == {"tensorflow-path"}


def test_tensorflow_constant_bound_to_function_that_nothing_calls_is_followed():
    assert rules(saved_model(graph(WHERE, functions=[WRITER]), objects=BOUND)) == {"tensorflow-path"}
    assert scan_bytes(saved_model(graph(WHERE, functions=[WRITER]))).verdict is Verdict.CLEAN, "its caller's path"


def _packed(text: str, kind: int = 7) -> bytes:
    """A constant whose texts are in `tensor_content`: their lengths, then their bytes."""
    tensor = pb((1, kind), (2, b""), (4, varint(len(text)) + text.encode()))
    return graph_node("where", "Const") + pb((5, pb((1, "value"), (2, pb((8, tensor))))))


def _used(where: bytes) -> bytes:
    return graph(where, graph_node("s", "SaveV2", ["where", "names"]))


UNFOLLOWED = {
    "content of a tensor": _used(_packed("/root/.ssh/authorized_keys")),
    "content of a tensor of no type": _used(_packed("/root/.ssh/authorized_keys", kind=0)),
    "computed": _writing(graph_node("path", "RegexReplace", ["where", "a", "b"])),
    "part computed": _writing(graph_node("a", "AsString"), graph_node("path", "StringJoin", ["a", "where2"]),
                              graph_node("where2", "Const", text="x")),
    "node that is missing": _writing(),
    "variable that is never set": _writing(graph_node("v", "VarHandleOp"), graph_node("path", "ReadVariableOp", ["v"])),
    "loop": _writing(graph_node("path", "Identity", ["b"]), graph_node("b", "Identity", ["path"])),
    "function that calls itself": graph(functions=[graph_function(
        "f", ["p"], graph_node("s", "SaveV2", ["p"]), graph_node("c", "PartitionedCall", ["p"], calls="f"))]),
    "very long chain": _writing(*[graph_node(f"i{n}", "Identity", [f"i{n + 1}"]) for n in range(3000)], path="i0"),
    "text that is too long": _writing(graph_node("path", "Const", text="a" * 2000)),
    "too many texts": _writing(graph_node("path", "Const", text=[str(n) for n in range(1000)])),
    "too many sums": _writing(*[graph_node(f"t{n}", "Const", text=["a", "b"]) for n in range(20)],
                              graph_node("path", "StringJoin", [f"t{n}" for n in range(20)])),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFOLLOWED)
def test_tensorflow_path_that_cannot_be_followed_is_not_clean(case):
    assert scan_bytes(UNFOLLOWED[case]).verdict is Verdict.PARTIAL
    assert scan_bytes(saved_model(UNFOLLOWED[case])).verdict is Verdict.PARTIAL


def test_tensorflow_content_of_numbers_is_no_path():
    axis = _packed("\0\0\0", kind=3)
    path = graph_node("path", "ConcatV2", ["a", "a", "where"])
    nodes = (axis, graph_node("a", "Const", text="x"), path, graph_node("s", "SaveV2", ["path", "names"]))
    assert scan_bytes(graph(*nodes)).verdict is Verdict.CLEAN


@pytest.mark.parametrize("op", ["DatasetFromGraph", "DeserializeIterator", "MlirPassthroughOp", "TRTEngineOp"])
def test_tensorflow_program_that_is_given_as_data_is_not_fully_scanned(op):
    for content in (graph(graph_node("n", op)), saved_model(graph(functions=[[graph_node("n", op)]]))):
        assert scan_bytes(content).verdict is Verdict.PARTIAL


def test_tensorflow_engine_outside_the_model_is_found():
    content = graph(WHERE, graph_node("e", "InitializeTRTResource", ["handle", "where"]))
    assert rules(content) == {"tensorflow-path"}


def test_tensorflow_names_of_tensors_are_no_paths():
    content = graph(
        graph_node("p", "Placeholder"),
        graph_node("n", "Const", text=["/a", "../b"]),
        graph_node("s", "SaveV2", ["p", "n"]),
    )
    assert scan_bytes(content).verdict is Verdict.CLEAN


def test_tensorflow_print_to_file_is_found():
    def printing(stream: str) -> bytes:
        return graph(graph_node("p", "PrintV2") + pb((5, pb((1, "output_stream"), (2, pb((2, stream)))))))

    assert rules(printing("file:///etc/x")) == {"tensorflow-file-op"}
    assert rules(printing("stderr")) == set()
    for path in ("/x", "../../x", "~/x", "gs://bucket/x"):
        attribute = pb((5, pb((1, "vocab_file"), (2, pb((2, path))))))
        assert rules(graph(graph_node("v", "FixedUnigramCandidateSampler") + attribute)) == {"tensorflow-file-op"}


LAMBDA = json.dumps({"class_name": "Lambda", "config": {"name": "l", "function": ["4wE=", None, None]}})


def test_keras_in_saved_model_is_checked():
    metadata = pb((1, pb((2, 1), (3, "root.layer"), (4, "_tf_keras_layer"), (5, LAMBDA))))
    assert rules(metadata) == {"keras-lambda"}
    assert rules(saved_model(CLEAN_GRAPH, metadata=LAMBDA)) == {"keras-lambda"}
    assert (
        scan_bytes(pb((1, pb((4, "_tf_keras_layer"), (5, '{"class_name": "Dense", "config": {}}'))))).verdict
        is Verdict.CLEAN
    )


def test_core_ml_custom_parts_are_reported():
    layer = pb((1, "l"), (500, pb((10, "EvilLayer"))))
    network = pb((1, 4), (2, pb((1, pb((1, "x"))))), (500, pb((1, layer))))
    assert rules(network) == {"coreml-custom"}
    assert scan_bytes(network).verdict is Verdict.CLEAN
    assert rules(pb((1, 4), (202, pb((1, network))))) == {"coreml-custom"}
    linked = pb((1, 4), (2, b""), (556, pb((1, pb((1, pb((1, "../../other.mlmodelc"))))))))
    assert worst(linked) is Severity.HIGH
