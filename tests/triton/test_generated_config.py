"""Configurations from graphs and settings, and repositories of them, for either backend."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.serve_settings import Serving
from buildkit.declare.stage_file import parse_stage
from buildkit.errors import DefinitionError
from buildkit.locks.pins import Model
from buildkit.triton.files import repository_files
from buildkit.triton.model_config import DynamicBatching, InstanceGroup, ModelConfig, TensorConfig, VersionPolicy
from buildkit.triton.onnx_graph import OnnxGraph
from buildkit.triton.read_config import read_config
from buildkit.triton.repository import Repository, make_repository
from tests.triton.graphs import COMPLEX, FLOAT, INT64, STRING, locked, make_graph

FILE = "stages/served/stage.toml"
LOCK = {
    model.name: model
    for model in (locked("vad", "vad.onnx"), locked("vad8", "deep/int8.onnx", "deep/int8.onnx_data", "notes.md"))
}
GRAPH = make_graph({"audio": (FLOAT, ["n", 576]), "rate": (INT64, [1])}, {"speech": (FLOAT, ["n", 2])})
ONE = '[[serve.model]]\nname = "vad"\nversions = { 1 = "vad" }\n'


def serving(text: str) -> Serving:
    stage = parse_stage(f'summary = "s"\n[serve]\nlock = "requirements/models.lock"\n{text}', name="served", file=FILE)
    assert stage.serve
    return stage.serve


def make(text: str, *, backend: str = "onnxruntime", texts: dict[str, str] | None = None, **more: Any) -> Repository:
    found = serving(text).with_texts(texts) if texts else serving(text)
    lock: dict[str, Model] = more.pop("lock", LOCK)
    return make_repository(found, backend=backend, file=FILE, models=lock, gpu=more.pop("gpu", None))


def graphs_for(repository: Repository, graph: OnnxGraph = GRAPH) -> dict[tuple[str, int], OnnxGraph]:
    return {
        (model.name, folder.number): graph for model in repository.models for folder in model.folders if folder.graph
    }


def config_of(text: str, graph: OnnxGraph = GRAPH, **more: Any) -> ModelConfig:
    repository = make(text, **more)
    texts = repository_files(repository, graphs_for(repository, graph))
    return read_config(str(texts["vad/config.pbtxt"]), "config.pbtxt", "vad").config


def refused(text: str, graph: OnnxGraph | None = None, **more: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        config_of(text, graph or GRAPH, **more)
    return "\n".join(str(problem) for problem in caught.value.problems)


def test_numbers_without_dimensions_are_for_batches_and_for_the_script() -> None:
    alone = make_graph({"audio": (FLOAT, ["n", 576]), "rate": (INT64, [])}, {"speech": (FLOAT, ["n", 2])})
    rate = TensorConfig(name="rate", type="TYPE_INT64", dims=(1,))
    assert config_of(ONE, alone, backend="python").inputs[1] == rate
    assert "`rate` is a number without dimensions" in refused(ONE, alone)
    batches = make_graph({"audio": (FLOAT, ["n", 576]), "rate": (INT64, ["n"])}, {"speech": (FLOAT, ["n", 2])})
    assert config_of(ONE + "max-batch = 4\n", batches).inputs[1] == replace(rate, reshape=())
    text = ONE + 'config = "c"\n'
    written = (
        'input { name: "audio" data_type: TYPE_FP32 dims: [-1, 576] }\n'
        'input { name: "rate" data_type: TYPE_INT64 dims: [DIMS] }\n'
        'output { name: "speech" data_type: TYPE_FP32 dims: [-1, 2] }'
    )
    for backend, dims, says in (
        ("python", "1", ""), ("python", "2", "c:2: `input[1].dims`: of `rate`, a number, are not [1]"),
        ("onnxruntime", "1", "c:2: `input[1].dims`: `rate` is a number"),
        ("python", "1] reshape { shape: [] }", "c:2: `input[1].reshape`: of `rate` is empty"),
    ):  # fmt: skip
        texts = {"c": written.replace("DIMS]", dims if "]" in dims else f"{dims}]")}
        if says:
            assert says in refused(text, alone, backend=backend, texts=texts)
        else:
            repository = make(text, backend=backend, texts=texts)
            assert repository_files(repository, graphs_for(repository, alone))


def test_text_is_refused_where_the_backend_would_end_at_it() -> None:
    texts = make_graph({"words": (STRING, ["n"])}, {"y": (FLOAT, ["n"])})
    assert config_of(ONE, texts).inputs[0].type == "TYPE_STRING"
    assert "TYPE_STRING of `words` is not for the script" in refused(ONE, texts, backend="python")
    written = 'input { name: "words" data_type: TYPE_STRING dims: [-1] }\n'
    written += 'output { name: "y" data_type: TYPE_FP32 dims: [-1] }'
    said = refused(ONE + 'config = "c"\n', texts, backend="python", texts={"c": written})
    assert said.startswith("c:1: `input[0].data_type`: TYPE_STRING of `words` is not for the script")


def test_tensors_are_those_of_the_graph() -> None:
    config = config_of(ONE)
    assert config == ModelConfig(
        name="vad",
        backend="onnxruntime",
        inputs=(
            TensorConfig(name="audio", type="TYPE_FP32", dims=(-1, 576)),
            TensorConfig(name="rate", type="TYPE_INT64", dims=(1,)),
        ),
        outputs=(TensorConfig(name="speech", type="TYPE_FP32", dims=(-1, 2)),),
        instances=(InstanceGroup(kind="KIND_CPU"),),
        policy=VersionPolicy(),
    )


def test_settings_reach_the_configuration() -> None:
    text = ONE + (
        'max-batch = 8\nthreads = 2\ncache = true\ninstances = { kind = "gpu", count = 2, gpus = [0, 1] }\n'
        "policy = { latest = 1 }\nbatching = { preferred = [4, 8], delay = 0.5, queue = 9, timeout = 20 }\n"
        "warm-up = { batch = 4 }\n"
    )
    graph = make_graph({"audio": (FLOAT, ["n", 576])}, {"speech": (FLOAT, [None, 2])})
    config = config_of(text, graph, gpu=GpuRequest(count=2))
    assert config.inputs == (TensorConfig(name="audio", type="TYPE_FP32", dims=(576,)),)
    assert config.batching == DynamicBatching(preferred=(4, 8), delay=500, queue=9, timeout=20000)
    assert config.instances == (InstanceGroup(kind="KIND_GPU", count=2, gpus=(0, 1)),)
    assert (config.max_batch, config.cached, config.policy) == (8, True, VersionPolicy(latest=1))
    assert config.parameters == (("intra_op_thread_count", "2"),)
    assert [(one.batch, [(i.name, i.dims, i.data) for i in one.inputs]) for one in config.warmups] == [
        (4, [("audio", (576,), "zero")])
    ]


def test_the_folders_of_versions_are_the_same_for_either_backend() -> None:
    text = '[[serve.model]]\nname = "vad"\nversions = { 2 = "vad8", 1 = "vad" }\n'
    both = {backend: make(text, backend=backend) for backend in ("onnxruntime", "python")}
    places = [[folder.places for folder in one.models[0].folders] for one in both.values()]
    assert places[0] == places[1] == [
        (("vad.onnx", "model.onnx"),),
        (("deep/int8.onnx", "model.onnx"), ("deep/int8.onnx_data", "int8.onnx_data"), ("notes.md", "notes.md")),
    ]  # fmt: skip
    files = {backend: repository_files(one, graphs_for(one)) for backend, one in both.items()}
    assert sorted(files["onnxruntime"]) == ["vad/config.pbtxt"]
    assert sorted(files["python"]) == ["vad/1/model.py", "vad/2/model.py", "vad/config.pbtxt"]
    own = [read_config(str(one["vad/config.pbtxt"]), "c", "vad").config for one in files.values()]
    assert [config.backend for config in own] == ["onnxruntime", "python"]
    assert own[0].inputs == own[1].inputs


def test_a_configuration_by_hand_is_kept_and_gets_the_backend_of_the_stage() -> None:
    text = ONE + 'config = "serving/vad.pbtxt"\n'
    written = (
        'input { name: "audio" data_type: TYPE_FP32 dims: [-1, 576] }\n'
        'input { name: "rate" data_type: TYPE_INT64 dims: [1] }\n'
        'output { name: "speech" data_type: TYPE_FP32 dims: [-1, 2] }'
    )
    for backend in ("onnxruntime", "python"):
        repository = make(text, backend=backend, texts={"serving/vad.pbtxt": written})
        files = repository_files(repository, graphs_for(repository))
        assert files["vad/config.pbtxt"] == f'{written}\nbackend: "{backend}"\n'
        assert ("vad/1/model.py" in files) == (backend == "python")
    said = refused(text, texts={"serving/vad.pbtxt": written.replace("576", "512")})
    assert said.startswith("serving/vad.pbtxt:1: `input[0].dims`: [-1, 512] of `audio` cannot be [-1, 576]")


def test_a_script_and_texts_lie_where_the_server_looks_for_them() -> None:
    text = (
        '[[serve.model]]\nname = "pre"\nscript = "serving/pre.py"\nconfig = "serving/pre.pbtxt"\n'
        'files = ["serving/labels.txt"]\n'
    )
    written = 'output { name: "o" data_type: TYPE_STRING dims: [1] label_filename: "labels.txt" }'
    texts = {"serving/pre.py": "x = 1\n", "serving/pre.pbtxt": written, "serving/labels.txt": "a\nb\n"}
    repository = make(text, texts=texts)
    assert repository_files(repository, {}) == {
        "pre/config.pbtxt": f'{written}\nbackend: "python"\n', "pre/1/model.py": "x = 1\n", "pre/labels.txt": "a\nb\n",
    }  # fmt: skip


FIXED = make_graph({"x": (FLOAT, [1, 576])}, {"y": (FLOAT, ["n", 2])})
REFUSED = {
    "batch of a fixed graph": (
        ONE + "max-batch = 4\n",
        FIXED,
        "`serve.model vad.max-batch`: the first dimension of `x` is fixed",
    ),
    "type without a name": (
        ONE,
        make_graph({"x": (COMPLEX, [1])}, {"y": (FLOAT, [1])}),
        "COMPLEX64, which Triton has no type for",
    ),
    "unknown rank": (ONE, make_graph({"x": (FLOAT, None)}, {"y": (FLOAT, [1])}), "write a config.pbtxt"),
    "warm-up of what varies": (ONE + "warm-up = {}\n", None, "`audio` needs a shape without -1"),
    "warm-up of nothing": (ONE + "warm-up = { shapes = { sound = [1] } }\n", None, "`sound` of `shapes` is no input"),
    "preferred": (
        ONE + "max-batch = 4\nbatching = { preferred = [8] }\n",
        None,
        "`serve.model vad.batching`: 8 is not between 1 and max_batch_size, 4",
    ),
    "batching of nothing": (
        ONE + "batching = {}\n",
        None,
        "`serve.model vad.batching`: has no effect: max_batch_size is 0",
    ),
    "GPU of nobody": (
        ONE + 'instances = [{ kind = "gpu" }]\n',
        None,
        "`serve.model vad.instances`: asks for a GPU, and the stage does not",
    ),
    "no such version": (
        ONE + "policy = { only = [3] }\n",
        None,
        "`serve.model vad.policy`: [3] is no version of the repository (it has [1])",
    ),
    "not in the lock": (
        ONE.replace('"vad" }', '"vat" }'),
        None,
        "the lock has no model `vat`, version 1 (did you mean `vad`?)",
    ),
    "no graph in it": (ONE + 'file = "x.onnx"\n', None, "`vad` has no file `x.onnx`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_said_with_the_key(case: str) -> None:
    text, graph, says = REFUSED[case]
    said = refused(text, graph)
    assert said.startswith(FILE)
    assert says in said


def test_several_files_of_the_kind_need_a_choice() -> None:
    lock = {"vad": locked("vad", "a.onnx", "b.onnx")}
    assert "choose one by `file`: a.onnx, b.onnx" in refused(ONE, lock=lock)
    chosen = make(ONE + 'file = "b.onnx"\n', lock=lock)
    assert chosen.models[0].folders[0].places == (("a.onnx", "a.onnx"), ("b.onnx", "model.onnx"))
    assert "`vad` has no files of the kind .onnx" in refused(ONE, lock={"vad": locked("vad", "a.pt")})
    assert "two files of `vad` would be 1/model.onnx" in refused(
        ONE + 'file = "b.onnx"\n', lock={"vad": locked("vad", "b.onnx", "model.onnx")}
    )


def test_versions_that_are_not_of_one_model_are_told_apart() -> None:
    repository = make('[[serve.model]]\nname = "vad"\nversions = { 1 = "vad", 2 = "vad8" }\n')
    other = make_graph({"audio": (FLOAT, ["n", 512]), "rate": (INT64, [1])}, {"speech": (FLOAT, [4, 2])})
    texts = repository_files(repository, {("vad", 1): GRAPH, ("vad", 2): other})
    config = read_config(str(texts["vad/config.pbtxt"]), "c", "vad").config
    assert [one.dims for one in (*config.inputs, *config.outputs)] == [(-1, -1), (1,), (-1, 2)]
    renamed = make_graph({"sound": (FLOAT, ["n", 576]), "rate": (STRING, [])}, {"speech": (FLOAT, ["n"])})
    with pytest.raises(DefinitionError) as caught:
        repository_files(repository, {("vad", 1): GRAPH, ("vad", 2): renamed})
    said = str(caught.value)
    for words in (
        "`audio` is an input (FLOAT) of version 1, and missing in 2",
        "`sound` is an input (FLOAT) of version 2",
        "`rate` is an input (INT64) of version 1, and STRING in 2",
        "`speech` has 2 dimensions in version 1, 1 in 2",
        "serve them as two models",
    ):
        assert words in said


SETTINGS = {
    "no models": ("", "`serve`: has no models"),
    "no versions": ('[[serve.model]]\nname = "x"\n', "`serve.model[0].versions`: is missing"),
    "script alone": ('[[serve.model]]\nname = "x"\nscript = "a.py"\n', "`serve.model[0].config`: is missing"),
    "by hand and not": (
        ONE + 'config = "a"\nmax-batch = 2\n',
        "`serve.model[0].max-batch`: has no effect with `config`",
    ),
    "twice": (ONE + ONE, "two models are named `vad`"),
    "bad name": (ONE.replace('name = "vad"', 'name = "1st/x"'), "is not a model's name"),
    "bad version": (ONE.replace("1 =", "01 ="), "is not a usable name"),
    "GPUs of a CPU": (
        ONE + "instances = { gpus = [0] }\n",
        "`serve.model[0].instances[0].gpus`: is for instances on GPUs",
    ),
    "reserved": ('target = "/tmp/x"\n' + ONE, "is below /tmp"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_contradict_themselves_are_reported(case: str) -> None:
    text, says = SETTINGS[case]
    with pytest.raises(DefinitionError) as caught:
        serving(text)
    assert says in "\n".join(map(str, caught.value.problems))


def test_examples_of_the_page_are_stages() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/triton.md").read_text("utf-8")
    first, second = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    served = parse_stage(f'summary = "s"\n{first}', name="served", file=FILE).serve
    assert served
    assert ([one.numbers for one in served.models], [len(one.step) for one in served.ensembles]) == ([(1, 2)], [2])
    assert parse_stage(second, name="gpu", file="stages/gpu/stage.toml").running.metrics == "8002/metrics"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("files", "twice"),
    [
        ('["a/labels.txt", "b/labels.txt"]', "labels.txt"),
        ('["a/config.pbtxt"]', "config.pbtxt"),
        ('["a/1"]', "1"),
    ],
)
def test_a_text_takes_the_place_of_no_other_file(files: str, twice: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        serving(f"{ONE}files = {files}\n")
    assert f"`{twice}` would be two files of the model's folder" in str(caught.value.problems[0])


def test_no_file_of_a_model_takes_the_place_of_the_script_that_runs_it() -> None:
    lock = {"vad": locked("vad", "vad.onnx", "model.py")}
    assert "two files of `vad` would be 1/model.py" in refused(ONE, backend="python", lock=lock)
    assert config_of(ONE, lock=lock)  # no script of ours
    below = {"vad": locked("vad", "vad.onnx", "model.onnx/weights")}
    assert "two files of `vad` would be 1/model.onnx" in refused(ONE, lock=below)
