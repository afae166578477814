"""TensorFlow loads graphs as text, too: their operators are found however they are written."""

import time

import pytest

from buildkit.scan import ScanLimits, Verdict
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import graphtext
from buildkit.scan.formats import text as text_format
from buildkit.scan.limits import ScanBudget
from tests.scan.formatmaker import rules, scan_bytes

MODEL = "saved_model_schema_version: 1\nmeta_graphs {\n  graph_def {\n    node {\n      %s\n    }\n  }\n}\n"
WRITTEN = [
    'op: "WriteFile"', "op: 'WriteFile'", 'op: "Write" "File"', "op: 'Write'\n\"File\"", 'op: "\\127riteFile"',
    'op: "\\x57riteFile"', 'op: "\\X57rite\\u0046ile"', 'op: "\\U00000057riteFile"', 'op: # why\n "WriteFile"',
    'op # "x"\n : "Write" # it\'s\n "File"', 'input: "#" op: "WriteFile"', 'input: "a\\"" ; op: "WriteFile"',
]  # fmt: skip


@pytest.mark.parametrize("field", WRITTEN)
def test_operator_is_found_however_it_is_written(field):
    assert rules((MODEL % field).encode()) == {"tensorflow-file-op"}


@pytest.mark.parametrize(
    "content",
    [
        'node{name:"n" op:"WriteFile"}', 'node<name:"n";op:"WriteFile">', 'node: [{op: "WriteFile"}]',
        'library { function { node_def # x\n { op: "WriteFile" } } }',
    ],
)  # fmt: skip
def test_operator_is_found_however_its_node_is_written(content):
    assert rules(content.encode()) == {"tensorflow-file-op"}


@pytest.mark.parametrize("op", ["SaveV2", "PrintV2", "DatasetFromGraph"])
def test_path_or_program_in_a_graph_that_is_text_is_not_fully_scanned(op):
    assert scan_bytes((MODEL % f'op: "{op}"').encode()).verdict is Verdict.PARTIAL


def test_large_graph_that_is_text_is_not_fully_scanned(monkeypatch):
    monkeypatch.setattr(text_format, "_TEMPLATE", 50)
    assert scan_bytes((MODEL % 'op: "Const"').encode()).verdict is Verdict.PARTIAL


@pytest.mark.parametrize("line", ['\\"', "node #", "node ", "node: # x\n", "op 'x"])
def test_text_that_only_resembles_a_graph_takes_no_time(line):
    content = 'op node "' + line * 200_000
    start = time.process_time()
    graphtext.is_graph(content)
    graphtext.check(ScanContext(path="x", budget=ScanBudget(ScanLimits()), registry=()), content)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "content",
    [
        MODEL % 'op: "MatMul" input: "WriteFile"',
        'name: "m"\nplatform: "onnxruntime_onnx"\ninput [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]\n',
        "item {\n  name: 'WriteFile'\n  id: 1\n}\n",
        'digraph g { node [shape=box]; op -> "WriteFile"; }\n',
    ],
)
def test_harmless_text_of_fields_is_clean(content):
    assert scan_bytes(content.encode()).verdict is Verdict.CLEAN
