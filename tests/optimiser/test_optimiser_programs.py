"""The programs of the optimiser's container, run here: the test environment has onnx and onnxruntime."""

import collections
import hashlib
import io
import json
import logging
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from buildkit.optimiser import torch_export
from buildkit.optimiser.host import count_threads, describe_processor
from buildkit.optimiser.measuring import time_in_turn
from buildkit.optimiser.onnx_tools import snap
from buildkit.optimiser.worker import serve

METRIC = """
import numpy as np

def good(model, data):
    outputs = [model({"x": np.full((4, 64), n / 8, np.float32)})[0] for n in range(8)]
    return float(np.mean(outputs))

def raising(model, data):
    raise ValueError("no such clip")

def nothing(model, data):
    return None

def never(model, data):
    return float("nan")

def idle(model, data):
    return 1.0
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers, large enough that quantisation makes it smaller."""
    folder = tmp_path_factory.mktemp("source")
    random = np.random.default_rng(7)
    weights = [random.standard_normal(shape).astype(np.float32) / 8 for shape in ((64, 256), (256, 16))]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(each, f"w{number}") for number, each in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return folder


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "metric.py").write_text(METRIC)
    return folder


def ask(*requests: dict[str, object]) -> list[dict[str, object]]:
    answers = io.BytesIO()
    serve(io.BytesIO(b"".join(json.dumps(each).encode() + b"\n" for each in requests)), answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def make(source: Path, scripts: Path, tool: str, into: Path, **more: object) -> dict[str, object]:
    request = {"do": "derive", "tool": tool, "source": str(source), "into": str(into), "scripts": str(scripts)}
    words = {"options": {}, "metric": "metric.py:good", "data": str(scripts), **more}
    return ask({**request, **words})[0]


@pytest.mark.parametrize("tool", ["onnx-optimise", "onnx-quantise-dynamic", "onnx-quantise-static"])
def test_tool_makes_the_same_bytes_again_and_leaves_the_source_alone(source, scripts, tmp_path, tool):
    before = {path: path.read_bytes() for path in source.iterdir()}
    first = make(source, scripts, tool, tmp_path / "one")
    again = make(source, scripts, tool, tmp_path / "two", ranges=first["ranges"], metric="")
    assert first["files"] == again["files"]
    (file,) = first["files"]
    assert file["sha256"] == hashlib.sha256((tmp_path / "one/model.onnx").read_bytes()).hexdigest()
    assert {path: path.read_bytes() for path in source.iterdir()} == before


def test_another_seed_of_hashes_makes_the_same_bytes(source, scripts, tmp_path):
    def run(seed: int) -> object:
        code = "import sys; from buildkit.optimiser.worker import serve; serve(sys.stdin.buffer, sys.stdout.buffer)"
        request = {
            "do": "derive", "tool": "onnx-quantise-static", "source": str(source), "into": str(tmp_path / str(seed)),
            "scripts": str(scripts), "options": {}, "metric": "metric.py:good", "data": str(scripts),
        }  # fmt: skip
        env = {**os.environ, "PYTHONHASHSEED": str(seed)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(request).encode() + b"\n",
            env=env,
            capture_output=True,
            check=True,
        )
        return json.loads(done.stdout)["files"]

    assert run(1) == run(2)


def test_static_quantisation_snaps_ranges_and_quantises(source, scripts, tmp_path):
    level = logging.getLogger().level
    made = make(source, scripts, "onnx-quantise-static", tmp_path / "out")
    assert logging.getLogger().level == level, "what else logs is heard as before"
    assert made["ranges"]
    for low, high in made["ranges"].values():
        assert float(f"{low:.3g}") == low
        assert float(f"{high:.3g}") == high
    measure = {"do": "measure", "models": {"": str(source), "int8": str(tmp_path / "out")}, "metric": "metric.py:good",
               "data": str(scripts), "scripts": str(scripts), "seconds": 0.05}  # fmt: skip
    found = ask(measure)[0]["models"]
    assert found["int8"]["quantised"] == {"MatMul": 2}
    assert found[""]["quantised"] == {}
    assert found["int8"]["metric"] == pytest.approx(found[""]["metric"], abs=0.05)
    assert all(found[name][time] > 0 for name in ("", "int8") for time in ("latency", "p50", "load"))
    assert found["int8"]["latency"] <= found["int8"]["p50"]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("metric.py:raising", "metric.py:9: ValueError: no such clip"),
        ("metric.py:nothing", "metric.py:nothing returned NoneType, and no number"),
        ("metric.py:never", "metric.py:never returned nan"),
        ("metric.py:absent", "metric.py has no function `absent`"),
    ],
)
def test_metric_that_fails_is_told_in_one_line(source, scripts, metric, said):
    request = {"do": "measure", "models": {"": str(source)}, "metric": metric, "data": str(scripts)}
    assert ask({**request, "scripts": str(scripts)})[0]["models"][""]["error"] == said


def test_calibration_without_inputs_is_refused(source, scripts, tmp_path):
    answer = make(source, scripts, "onnx-quantise-static", tmp_path / "out", metric="metric.py:idle")
    assert "never calls the model" in answer["error"]


def test_graph_that_the_tool_cannot_take_is_named(scripts, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/model.onnx").write_bytes(b"\x08\x09no graph")
    answer = make(tmp_path / "bad", scripts, "onnx-optimise", tmp_path / "out")
    assert "cannot take model.onnx" in answer["error"]
    assert "\n" not in answer["error"]


def test_model_of_several_graphs_must_name_one(source, scripts, tmp_path):
    two = tmp_path / "two"
    two.mkdir()
    for name in ("a.onnx", "b.onnx"):
        (two / name).write_bytes((source / "model.onnx").read_bytes())
    assert "name one by `file`" in make(two, scripts, "onnx-optimise", tmp_path / "out")["error"]
    made = make(two, scripts, "onnx-optimise", tmp_path / "out", options={"file": "b.onnx"})
    assert [file["path"] for file in made["files"]] == ["b.onnx"]


def test_script_of_the_project_is_a_tool(source, scripts, tmp_path):
    (scripts / "cut.py").write_text(
        "def main(source, into, options):\n    (into / 'kept.txt').write_text(options['text'])\n"
        "def none(source, into, options): pass\ndef bad(source, into, options): raise KeyError('x')\n"
    )
    made = make(source, scripts, "cut.py:main", tmp_path / "out", options={"text": "hello"})
    assert [file["path"] for file in made["files"]] == ["kept.txt"]
    assert "made no file" in make(source, scripts, "cut.py:none", tmp_path / "out")["error"]
    assert make(source, scripts, "cut.py:bad", tmp_path / "out")["error"] == "cut.py:4: KeyError: 'x'"


@pytest.mark.parametrize(
    ("pair", "snapped"),
    [((-1.2345, 0.0012301), (-1.24, 0.00124)), ((0.0, 1.23), (0.0, 1.23)), ((-100.0, 99.95), (-100.0, 100.0))],
)
def test_ranges_are_snapped_outward(pair, snapped):
    assert snap(*pair) == snapped


def test_threads_are_those_of_the_cgroup(tmp_path):
    free = len(os.sched_getaffinity(0))
    assert count_threads(tmp_path) == free
    folder = tmp_path / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text("max 100000\n")
    assert count_threads(tmp_path) == free
    (folder / "cpu.max").write_text("100000 100000\n")
    assert count_threads(tmp_path) == 1
    (folder / "cpu.max").unlink()
    (folder / "cpu").mkdir()
    (folder / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    (folder / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert count_threads(tmp_path) == 1


def test_processor_is_told_by_what_changes_numbers():
    assert describe_processor("processor: 0\nflags\t\t: fpu sse avx2 fma ht\n").split()[1:] == ["avx2", "fma"]


def test_models_take_turns_and_the_order_turns_round():
    called = []
    time_in_turn({"a": lambda: called.append("a") or 1.0, "b": lambda: called.append("b") or 2.0}, 3)
    assert "".join(called) == "abbaab"


class _Storage:
    def __init__(self, kind: str, key: str) -> None:
        self.kind, self.key = kind, key


class _Global:
    """Something that pickles as a name of a module."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.place, self.arguments = (module, name), arguments


class _Writer(pickle._Pickler):
    """Writes names that are not importable here, as `torch.save` does."""

    def persistent_id(self, value: object) -> object:
        return ("storage", _Global("torch", value.kind), value.key, "cpu", 6) if isinstance(value, _Storage) else None

    def save(self, value: object, save_persistent_id: bool = True) -> None:
        if isinstance(value, _Global):
            module, name = value.place
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
            if value.arguments:
                self.save(value.arguments)
                self.write(pickle.REDUCE)
            return
        super().save(value, save_persistent_id)


def write_torch(path: Path, value: object, storages: dict[str, bytes]) -> None:
    out = io.BytesIO()
    _Writer(out, 2).dump(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", out.getvalue())
        archive.writestr("m/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"m/data/{key}", data)


def tensor(kind: str, key: str, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> _Global:
    return _Global("torch._utils", "_rebuild_tensor_v2", _Storage(kind, key), offset, shape, strides, False, None)


@pytest.fixture
def torch_model(tmp_path: Path) -> Path:
    folder = tmp_path / "torch"
    folder.mkdir()
    numbers = struct.pack("<6f", 0, 1, 2, 3, 4, 5)
    state = collections.OrderedDict(
        plain=tensor("FloatStorage", "0", (2, 3), (3, 1)),
        turned=tensor("FloatStorage", "0", (3, 2), (1, 3)),
        part=tensor("HalfStorage", "1", (2,), (1,), 1),
    )
    write_torch(folder / "model.pt", {"state": state, "epoch": 3}, {"0": numbers, "1": struct.pack("<3e", 7, 8, 9)})
    return folder


def test_torch_file_becomes_safetensors_that_the_library_reads(torch_model, scripts, tmp_path):
    from safetensors.numpy import load_file

    refused = make(torch_model, scripts, "to-safetensors", tmp_path / "out")["error"]
    assert "holds more than tensors: state, epoch" in refused
    made = make(torch_model, scripts, "to-safetensors", tmp_path / "out", options={"key": "state"})
    assert [file["path"] for file in made["files"]] == ["model.safetensors"]
    read = load_file(tmp_path / "out/model.safetensors")
    assert read["plain"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert read["part"].tolist() == [8, 9]
    assert read["part"].dtype == np.float16


def test_torch_file_that_would_run_code_is_refused_unread(scripts, tmp_path):
    folder = tmp_path / "evil"
    folder.mkdir()
    write_torch(folder / "model.pt", {"a": _Global("os", "system", f"touch {tmp_path}/ran")}, {})
    assert "would run code: it asks for os.system" in make(folder, scripts, "to-safetensors", tmp_path / "out")["error"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        tensor("FloatStorage", "0", (9,), (1,)),  # beyond the storage
        tensor("FloatStorage", "0", (2,), (-1,)),
        tensor("FloatStorage", "9", (1,), (1,)),  # no such storage
    ],
)
def test_tensor_that_does_not_fit_is_refused(wrong, scripts, tmp_path):
    folder = tmp_path / "torch"
    folder.mkdir()
    write_torch(folder / "model.pt", {"a": wrong}, {"0": bytes(24)})
    assert "cannot be read" in make(folder, scripts, "to-safetensors", tmp_path / "out")["error"]


def test_paths_of_the_machine_are_stripped_from_a_graph(source, tmp_path):
    model = onnx.load(source / "model.onnx")
    model.graph.node[0].doc_string = "/home/someone/module.py"
    for message in (model, model.graph, model.graph.node[1], model.graph.input[0]):
        entry = message.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.stack_trace", "/home/someone/module.py"
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    torch_export.strip_file(path)
    assert b"/home/someone" not in path.read_bytes()
    onnx.checker.check_model(str(path))
