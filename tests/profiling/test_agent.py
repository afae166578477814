"""The program of a profiled container, in a process of its own: real tracemalloc and ONNX Runtime, a recorded torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.inspection.profile_exchange import DONE, MOST_BYTES, STARTED, Exchange, ProcessReport
from buildkit.profiling.trace_files import TraceError, sum_functions, sum_memory, sum_onnx
from tests.waiting import wait_until

AGENT = Path(__file__).parents[2] / "buildkit/profiling/agent"
TORCH = """
import types, json, os
CALLS = []
class Module:
    def __call__(self, x):
        return self.forward(x)
nn = types.SimpleNamespace(Module=Module)
cuda = types.SimpleNamespace(is_available=lambda: False)
class profiler:
    ProfilerActivity = types.SimpleNamespace(CPU="cpu", CUDA="cuda")
    schedule = staticmethod(lambda **named: named)
    class profile:
        def __init__(self, activities, schedule, on_trace_ready):
            CALLS.append([activities, schedule])
            self.schedule, self.ready, self.steps = schedule, on_trace_ready, 0
        def start(self): CALLS.append("start")
        def stop(self): CALLS.append("stop")
        def step(self):
            self.steps += 1
            if self.steps == self.schedule["warmup"] + self.schedule["active"]:
                self.ready(self)
        def export_chrome_trace(self, path):
            open(path, "w").write(json.dumps({"traceEvents": [], "steps": self.steps, "calls": CALLS}))
"""


@contextmanager
def profiled(folder: Path, what: str, code: str, path: str = "") -> Iterator[tuple[Exchange, subprocess.Popen[str]]]:
    """A process under the agent, which has said that it is ready; it ends with its input."""
    (folder / "out").mkdir()
    (folder / "own").mkdir()
    (folder / "own/sitecustomize.py").write_text("import builtins; builtins.OWN = True\n")
    env = {
        "XOE_PROFILE": what,
        "XOE_PROFILE_FOLDER": str(folder / "out"),
        "PYTHONPATH": f"{AGENT}:{folder / 'own'}:{path}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    with subprocess.Popen(
        (sys.executable, "-c", f"assert OWN\n{code}"), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            exchange = Exchange(folder=folder / "out")
            assert child.stdout
            assert child.stdout.readline() == "up\n"
            exchange.say("start")
            exchange.wait(STARTED, lambda: None)
            yield exchange, child
        finally:
            child.kill()


def finish(exchange: Exchange) -> list[ProcessReport]:
    exchange.say("stop")
    exchange.wait(DONE, lambda: None)
    return exchange.reports()


def test_memory_is_told_by_file_with_what_has_grown_also_of_a_forked_worker(tmp_path: Path) -> None:
    code = """
import os, sys
kept = [bytes(1000) for _ in range(1000)]
child = os.fork()
if child:
    print("up", flush=True)
sys.stdin.readline() if child else __import__("time").sleep(600)
more = [bytes(1000) for _ in range(2000)]
print("more", flush=True)
sys.stdin.readline()
"""
    with profiled(tmp_path, "memory", code) as (exchange, child):
        assert child.stdin
        assert child.stdout
        wait_until(lambda: len(exchange.processes()) == 2)
        exchange.wait(STARTED, lambda: None)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "more\n"
        reports = finish(exchange)
        subprocess.run(("kill", str(max(exchange.processes()))), check=True)
    assert [one.problems for one in reports] == [(), ()]
    grown = []
    for report in reports:
        (name,) = report.files
        assert report.peak > 1 << 20
        found = {one.file: one for one in sum_memory(json.loads(exchange.read(name)), name)}
        assert found["<string>"].bytes > 1_000_000
        grown.append(found["<string>"].grown)
    assert max(grown) > 2_000_000
    assert min(grown) < 100_000, "the other process has not grown"


ONNX = """
import sys, numpy, onnxruntime
from onnx import helper
values = [helper.make_tensor_value_info(name, 1, [4]) for name in "ab"]
graph = helper.make_graph([helper.make_node("Add", ["a", "a"], ["b"])], "g", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)])
model.ir_version = 9
options = onnxruntime.SessionOptions()
sessions = [onnxruntime.InferenceSession(model.SerializeToString(), options) for _ in range(2)]
assert not options.enable_profiling
run = lambda: sessions[0].run(None, {"a": numpy.ones(4, "float32")})
run()
print("up", flush=True)
sys.stdin.readline()
for _ in range(5):
    run()
print("ran", flush=True)
sys.stdin.readline()
assert list(run()[0]) == [2, 2, 2, 2]
print("right", flush=True)
"""


def test_sessions_of_onnx_runtime_write_traces_without_the_warm_up(tmp_path: Path) -> None:
    with profiled(tmp_path, "frameworks", ONNX) as (exchange, child):
        assert child.stdin
        assert child.stdout
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "ran\n"
        (report,) = finish(exchange)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "right\n", "it goes on"
    assert report.problems == ()
    assert len(report.files) == 2
    calls = []
    for name in report.files:
        document = json.loads(exchange.read(name))
        assert isinstance(document, list)
        counted = sum_onnx(document, name, report.skip[name])
        calls.append([(one.name, one.where, one.calls) for one in counted])
    assert calls == [[("Add", "CPU", 5)], []]


def test_torch_is_profiled_with_warm_up_by_the_thread_that_comes_first(tmp_path: Path) -> None:
    code = """
import sys, threading, torch, xoe_profile
class Inner(torch.nn.Module):
    def forward(self, x): return x + 1
class Outer(torch.nn.Module):
    def forward(self, x): return Inner()(x) * 2
def work(times):
    for _ in range(times):
        assert Outer()(1) == 4
work(20)
print("up", flush=True)
for times in map(int, sys.stdin):
    if times:
        work(times)
    else:
        thread = threading.Thread(target=work, args=(20,)); thread.start(); thread.join()
        with xoe_profile.step(): pass
    print("did", flush=True)
"""
    (tmp_path / "torch.py").write_text(TORCH)
    with profiled(tmp_path, "frameworks", code, str(tmp_path)) as (exchange, child):
        assert child.stdin
        assert child.stdout
        for times in (3, 0, 5):
            child.stdin.write(f"{times}\n")
            child.stdin.flush()
            assert child.stdout.readline() == "did\n"
        (report,) = finish(exchange)
    assert report.problems == ()
    written = json.loads(exchange.read(report.files[0]))
    assert written["steps"] == 7
    assert written["calls"] == [[["cpu"], {"wait": 0, "warmup": 2, "active": 5, "repeat": 1}], "start"]


def test_too_few_steps_of_torch_are_said(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    code = "import torch; print('up', flush=True); input()"
    with profiled(tmp_path, "frameworks", code, str(tmp_path)) as (exchange, _):
        (report,) = finish(exchange)
    assert report.problems == ("torch: 0 of 7 steps came from the thread that took the first: no trace",)


def test_a_process_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    with profiled(tmp_path, "memory", "print('up', flush=True); input()") as (exchange, child):
        child.kill()
        child.wait()
        assert finish(exchange) == []


def test_what_a_container_leaves_is_read_as_hostile(tmp_path: Path) -> None:
    exchange = Exchange(folder=tmp_path)
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "memory-1.json").symlink_to("secret")
    (tmp_path / "memory-2.json").mkdir()
    for name in ("secret", "../x", "memory-1.json", "memory-2.json", "memory-3.json"):
        for take in (exchange.read, lambda name: exchange.copy(name, tmp_path / "copy")):
            with pytest.raises(TraceError):
                take(name)
    with (tmp_path / "torch-1.json").open("wb") as large:
        large.truncate(MOST_BYTES + 1)
    with pytest.raises(TraceError, match="more than 64 MiB: make --seconds or --rate less"):
        exchange.read("torch-1.json")
    (tmp_path / "ready-1").write_text("")
    (tmp_path / "done-1.json").write_text('{"problems": 1}')
    with pytest.raises(TraceError, match="not of its format"):
        exchange.reports()
    (tmp_path / "done-1.json").write_text('{"problems": [], "files": [], "peak": Infinity, "skip": {}}')
    with pytest.raises(TraceError, match="not of its format"):
        exchange.reports()
    (tmp_path / "done-1.json").write_text('{"problems": [], "files": ["a", "b", "a"], "peak": 1, "skip": {}}')
    assert exchange.reports()[0].files == ("a", "b")
    (tmp_path / "start").touch()
    with pytest.raises(BuildError, match="has written the file 'start'"):
        exchange.say("start")
    with pytest.raises(TraceError):
        sum_functions({"shared": {"frames": [{"name": "f", "line": float("inf")}]}, "profiles": []}, "cpu")
