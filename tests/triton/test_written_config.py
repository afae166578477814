"""Configurations that were written by hand: every mistake with its file, line and field, and what is right."""

from __future__ import annotations

import pytest

from buildkit.declare.gpu_request import GpuRequest
from buildkit.errors import DefinitionError
from buildkit.triton.check_config import ConfigFacts, ConfigOrigin, check_config
from buildkit.triton.check_graph import check_graph
from buildkit.triton.read_config import read_config
from buildkit.triton.render_config import render_config
from buildkit.triton.text_lines import find_lines
from tests.triton.graphs import FLOAT, INT64, make_graph

FILE = "serving/vad.pbtxt"
GOOD = """\
name: "vad"  # a comment with { a brace
backend: "onnxruntime"
max_batch_size: 8
input [
  {
    name: "audio"
    data_type: TYPE_FP32
    dims: [ -1, 576 ]
  },
  { name: "rate" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } }
]
output { name: "speech" data_type: TYPE_FP32 dims: 2 label_filename: "labels.txt" }
dynamic_batching { preferred_batch_size: [ 4, 8 ] }
instance_group [ { kind: KIND_GPU gpus: [ 0 ] } ]
version_policy: { specific: { versions: [ 1 ] } }
model_warmup {
  name: "w"
  batch_size: 1
  inputs { key: "audio" value { data_type: TYPE_FP32 dims: [ 4, 576 ] zero_data: true } }
  inputs { key: "rate" value { data_type: TYPE_INT64 dims: [ 1 ] zero_data: true } }
}
"""
GRAPH = make_graph({"audio": (FLOAT, ["n", "t", 576]), "rate": (INT64, ["n"])}, {"speech": (FLOAT, ["n", 2])})


def problems(text: str, **facts: object) -> list[str]:
    known = {"versions": {1: ("model.onnx",)}, "texts": ("labels.txt",), "gpu": GpuRequest(count=1)}
    try:
        written = read_config(text, FILE, "vad")
    except DefinitionError as error:
        return [str(problem) for problem in error.problems]
    origin = ConfigOrigin(file=FILE, lines=written.lines)
    about = ConfigFacts(name="vad", platform=written.platform, **{**known, **facts})  # type: ignore[arg-type]
    faults = [*check_config(written.config, about), *check_graph(written.config, GRAPH, 1)]
    return [str(origin.problem(fault)) for fault in faults]


def test_a_right_configuration_has_no_faults_and_comes_back_from_its_text() -> None:
    assert problems(GOOD) == []
    config = read_config(GOOD, FILE, "vad").config
    assert read_config(render_config(config), FILE, "vad").config == config


BAD = {
    "unknown field": (
        "max_batch_size: 8",
        "max_batch: 8",
        ":3: `max_batch` is no field of ModelConfig",
        "did you mean `max_batch_size`?",
    ),
    "bad enum": ("KIND_GPU", "KIND_TPU", ":14: `KIND_TPU` is no InstanceKind", "`KIND_"),
    "type of another library": (
        "data_type: TYPE_FP32\n",
        "data_type: TYPE_FLOAT32\n",
        ":7: `TYPE_FLOAT32` is no DataType",
        "`TYPE_",
    ),
    "wrong type": ("max_batch_size: 8", 'max_batch_size: "8"', ":3: ", "integer"),
    "two of a choice": ("dynamic_batching {", "sequence_batching { }\ndynamic_batching {", ":14: ", "dynamic_batching"),
    "twice": ("max_batch_size: 8", "max_batch_size: 8\nmax_batch_size: 9", ":4: ", "max_batch_size"),
    "another name": ('name: "vad"', 'name: "vod"', ":1: `name`: `vod` is not the model's name", 'name: "vad"'),
    "platform of another": (
        'backend: "onnxruntime"',
        'backend: "onnxruntime" platform: "pytorch_libtorch"',
        ":2: `platform`",
        "onnxruntime_onnx",
    ),
    "unknown platform": (
        'backend: "onnxruntime"',
        'platform: "onnx_runtime"',
        ":2: `platform`: `onnx_runtime` is no platform",
        "onnxruntime_onnx",
    ),
    "file of no version": (
        "max_batch_size: 8",
        'max_batch_size: 8 default_model_filename: "mode.onnx"',
        ":3: `default_model_filename`: version 1 has no file mode.onnx",
        "did you mean `model.onnx`?",
    ),
    "dimension": ("-1, 576", "0, 576", ":8: `input[0].dims`: 0 of `audio` is no dimension", "-1 for one that varies"),
    "other dimension": (
        "-1, 576",
        "-1, 512",
        ":8: `input[0].dims`: [-1, 512] of `audio` cannot be [-1, 576]",
        "write [-1, 576]",
    ),
    "other rank": ("dims: 2", "dims: [2, 1]", ":12: `output[0].dims`", "write [2]"),
    "no dims": ("dims: 2", "", ":12: `output[0].dims`: of `speech` is empty", "reshape"),
    "reshape": ("shape: [ ]", "shape: [ 2 ]", ":10: `input[1].reshape`", "not as many elements"),
    "other type": (
        "data_type: TYPE_INT64 dims: [ 1 ] reshape",
        "data_type: TYPE_INT32 dims: [ 1 ] reshape",
        ":10: `input[1].data_type`: TYPE_INT32 of `rate` is TYPE_INT64",
        "write TYPE_INT64",
    ),
    "no such input": (
        'name: "audio"\n',
        'name: "sound"\n',
        ":6: `input[0].name`: the graph of version 1 has no input `sound`",
        "it has audio, rate",
    ),
    "missing input": (
        '  },\n  { name: "rate" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } }\n',
        "  }\n",
        ":5: `input`: lacks `rate`",
        "TYPE_INT64",
    ),
    "no such output": (
        'output { name: "speech"',
        'output { name: "spech"',
        ":12: `output[0].name`",
        "did you mean `speech`?",
    ),
    "preferred": (
        "[ 4, 8 ]",
        "[ 4, 16 ]",
        ":13: `dynamic_batching.preferred_batch_size`: 16 is not between 1 and max_batch_size, 8",
        "raise that",
    ),
    "GPU beyond": ("gpus: [ 0 ]", "gpus: [ 0, 3 ]", ":14: `instance_group[0].gpus`: [3] is beyond the 1", "gpu.count"),
    "CPU with GPUs": ("KIND_GPU", "KIND_CPU", ":14: `instance_group[0].gpus`: cannot be set with KIND_CPU", "KIND_GPU"),
    "no instances": ("gpus: [ 0 ]", "count: -1", ":14: `instance_group[0].count`", "1 or more"),
    "version": ("versions: [ 1 ]", "versions: [ 1, 7 ]", ":15: `version_policy`: [7] is no version", "it has [1]"),
    "labels": (
        "labels.txt",
        "label.txt",
        ":12: `output[0].label_filename`: the model's folder has no file label.txt",
        "did you mean `labels.txt`?",
    ),
    "warm-up shape": (
        "dims: [ 4, 576 ] zero",
        "dims: [ -1, 576 ] zero",
        ":19: `model_warmup[0].inputs`: `audio` needs a shape without -1",
        "[-1, 576]",
    ),
    "warm-up misfit": (
        "dims: [ 4, 576 ] zero",
        "dims: [ 4, 575 ] zero",
        ":19: `model_warmup[0].inputs`: `audio` cannot be [4, 575]",
        "it is [-1, 576]",
    ),
    "warm-up type": ("value { data_type: TYPE_FP32", "value { data_type: TYPE_FP16", ":19: ", "`audio` is TYPE_FP32"),
    "warm-up input": ('key: "rate"', 'key: "rat"', ":19: ", "did you mean `rate`?"),
    "warm-up batch": (
        "batch_size: 1\n",
        "batch_size: 9\n",
        ":18: `model_warmup[0].batch_size`: 9 is not between 1 and 8",
        "",
    ),
    "cache of sequences": (
        "dynamic_batching { preferred_batch_size: [ 4, 8 ] }",
        "sequence_batching { }\nresponse_cache { enable: true }",
        ":14: `response_cache`",
        "sequences",
    ),
    "never closed": ("version_policy: { specific", "version_policy: { { specific", ":15: ", ""),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_names_line_and_field_and_what_is_right(case: str) -> None:
    before, after, place, right = BAD[case]
    assert before in GOOD
    found = [one for one in problems(GOOD.replace(before, after, 1)) if f"{FILE}{place}" in one and right in one]
    assert found, problems(GOOD.replace(before, after, 1))


def test_types_are_held_against_the_table_of_the_backend() -> None:
    text = GOOD.replace("onnxruntime", "pytorch").replace("TYPE_INT64", "TYPE_STRING")
    found = problems(text, versions={1: ("model.pt",)})
    assert any(
        ":10: `input[1].data_type`: TYPE_STRING of `rate` is no type of the backend pytorch" in one for one in found
    )
    assert problems(GOOD.replace("TYPE_INT64", "TYPE_BF16"))
    assert any("version 2 has no file model.pt" in one for one in problems(text, versions={1: ("model.pt",), 2: ()}))


def test_gpus_are_held_against_the_request_of_the_stage() -> None:
    assert any(":14: `instance_group[0].kind`: asks for a GPU" in one for one in problems(GOOD, gpu=None))
    auto = GOOD.replace("KIND_GPU", "KIND_AUTO")
    assert any(":14: `instance_group[0].gpus`: names the GPUs [0]" in one for one in problems(auto, gpu=None))
    assert problems(GOOD.replace("[ 0 ]", "[ 9 ]"), gpu=GpuRequest(count=0)) == []
    assert problems(GOOD.replace("[ 0 ]", "[ 1 ]"), gpu=GpuRequest(devices=("0", "3"))) == []


def test_a_model_without_batches_has_the_whole_shape() -> None:
    text = "\n".join(
        line for line in GOOD.splitlines() if "dynamic_batching" not in line and "batch_size: 8" not in line
    )
    found = problems(text)
    assert any("cannot be [-1, -1, 576]" in one and "write [-1, -1, 576]" in one for one in found)
    fixed = read_config(GOOD, FILE, "vad").config
    still = make_graph({"audio": (FLOAT, [1, "t", 576]), "rate": (INT64, ["n"])}, {"speech": (FLOAT, ["n", 2])})
    assert [one.field for one in check_graph(fixed, still, 1)] == ["max_batch_size"]


def test_no_text_gets_more_than_a_message() -> None:
    for text in (
        "{" * 2000,
        "input { " * 3000,
        "\0",
        "name: 'x",
        "input [",
        "a: b: c",
        "[x.y] { }",
        "max_batch_size: 1e9999",
    ):
        assert problems(text)
    assert "larger than" in problems("#" + "x" * (2 << 20))[0]


def test_lines_of_many_fields_are_found_in_one_pass() -> None:
    one = 'parameters { key: "k" value { string_value: "x" } }\n'
    lines = find_lines(one * 15_000)
    assert (lines["parameters.value.string_value"], lines["parameters[14999].value[0].string_value"]) == (1, 15_000)
    assert "parameters[1].value.string_value" in lines
