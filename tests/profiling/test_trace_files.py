"""Traces: what is summed of them, the formats that are written, and what is no trace."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from buildkit.profiling import trace_events
from buildkit.profiling.trace_events import read_events
from buildkit.profiling.trace_files import (
    TraceError,
    merge_operators,
    parse_json_trace,
    render_memory,
    sum_functions,
    sum_memory,
    sum_onnx,
    sum_torch,
)

SCHEMA = json.loads(Path(__file__).with_name("speedscope-schema.json").read_text())


def sampled(samples: list[list[int]], weights: list[float]) -> dict[str, Any]:
    frames = [
        {"name": "main", "file": "/app/main.py", "line": 3},
        {"name": "Model.run", "file": "/app/model.py", "line": 9},
        {"name": "EpollSelector.select", "file": "/usr/lib/python3.13/selectors.py", "line": 452},
    ]
    return {"shared": {"frames": frames}, "profiles": [{"samples": samples, "weights": weights}]}


def test_functions_have_own_and_total_time_recursion_counts_once_and_waiting_not() -> None:
    found = sum_functions(sampled([[0], [0, 1], [0, 1, 1], [0, 2], []], [1, 2, 4, 100, 50]), "it")
    assert [(one.name, one.own, one.total) for one in found] == [("Model.run", 6, 6), ("main", 1, 7)]


def test_operators_of_onnx_runtime_begin_after_the_warm_up() -> None:
    def node(name: str, ts: int, provider: str = "CPUExecutionProvider") -> dict[str, Any]:
        arguments = {"op_name": name, "provider": provider}
        return {"cat": "Node", "name": f"{name}_1_kernel_time", "ts": ts, "dur": 1000, "args": arguments}

    events = [
        {"cat": "Session", "name": "model_run", "ts": 0, "dur": 9},
        node("MatMul", 1),
        node("MatMul", 50),
        node("MatMul", 60),
        node("Add", 70, "CUDAExecutionProvider"),
        {"cat": "Node", "name": "Add_fence_before", "ts": 70, "dur": 5, "args": {"op_name": "Add"}},
    ]
    found = merge_operators((*sum_onnx(events, "it", 50), *sum_onnx(events, "it", 60)))
    assert [(one.name, one.where, one.calls, one.seconds) for one in found] == [
        ("MatMul", "CPU", 3, 0.003),
        ("Add", "GPU", 2, 0.002),
    ]


def test_operators_of_torch_count_without_those_inside_and_kernels_apart() -> None:
    def event(cat: str, name: str, ts: float, dur: float, tid: int = 1) -> dict[str, Any]:
        return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "pid": 7, "tid": tid}

    events = [
        event("cpu_op", "aten::linear", 0, 100),
        event("cpu_op", "aten::addmm", 10, 60),
        event("cpu_op", "aten::copy_", 20, 5),
        event("cpu_op", "aten::relu", 100, 10),
        event("cpu_op", "aten::relu", 50, 10, tid=2),
        event("kernel", "gemm", 30, 40),
        {"ph": "M", "name": "process_name"},
    ]
    found = {(one.name, one.where): (one.calls, round(one.seconds * 1e6)) for one in sum_torch(events, "")}
    assert found == {
        ("aten::linear", "CPU"): (1, 40),
        ("aten::addmm", "CPU"): (1, 55),
        ("aten::copy_", "CPU"): (1, 5),
        ("aten::relu", "CPU"): (2, 20),
        ("gemm", "GPU kernel"): (1, 40),
    }


def test_memory_becomes_a_profile_that_speedscope_takes() -> None:
    document = {
        "files": [["/app/a.py", 300, 2, 100]],
        "traces": [[200, [["/app/main.py", 1], ["/app/a.py", 5]]], [100, [["/app/main.py", 1]]]],
    }
    (memory,) = sum_memory(document, "it")
    assert (memory.file, memory.bytes, memory.blocks, memory.grown) == ("/app/a.py", 300, 2, 100)
    rendered = render_memory(document, "memory", "it")
    jsonschema.validate(rendered, SCHEMA)
    assert rendered["profiles"][0]["samples"] == [[0, 1], [0]]
    assert rendered["profiles"][0]["endValue"] == 300


@pytest.mark.parametrize(
    "value",
    [None, 1, [], {}, [1], {"shared": 1}, {"files": [[1]], "traces": [[1]]}, {"traceEvents": [1]}, [{"cat": "Node"}]],
)
def test_what_is_no_trace_is_an_error(value: Any) -> None:
    wrong = 0
    for read in (sum_functions, sum_onnx, sum_torch, sum_memory, lambda one, what: render_memory(one, "", what)):
        try:
            read(value, "it")
        except TraceError:
            wrong += 1
    assert wrong >= 3, "what is empty holds no events"


EVENTS = [{"name": "Größe", "dur": 12.5, "args": [1, {"a": None}]}, [], 17, "x\n", {"name": "\U0001f40d"}]
AROUND = {"schemaVersion": 1, "more": [1, {}], "traceEvents": EVENTS, "after": 2}


@pytest.mark.parametrize("document", [EVENTS, AROUND, [], {"traceEvents": []}])
@pytest.mark.parametrize("indent", [None, 1])
def test_events_are_read_one_by_one(document: Any, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_events, "_CHUNK", 3)
    data = json.dumps(document, indent=indent, ensure_ascii=False).encode()
    wanted = document["traceEvents"] if isinstance(document, dict) else document
    assert list(read_events(BytesIO(data), "it")) == wanted
    for cut in range(data.rindex(b"]") + 1):
        with pytest.raises(TraceError, match="it is not JSON of trace events"):
            list(read_events(BytesIO(data[:cut]), "it"))


def test_event_without_an_end_is_refused_before_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_events, "_CHUNK", 1000)
    monkeypatch.setattr(trace_events, "_LONGEST", 4000)
    for value in (b'[{"a": "' + b"x" * 100_000, b"[" * 100_000, b'{"a": [' + b"1," * 100_000, b"1" * 100_000):
        file = BytesIO(value)
        with pytest.raises(TraceError):
            list(read_events(file, "it"))
        assert file.tell() <= 6000


def test_text_that_is_no_json_is_an_error() -> None:
    for data in (b"", b"[" * 100_000, b"\xff"):
        with pytest.raises(TraceError, match="it is not JSON"):
            parse_json_trace(data, "it")
