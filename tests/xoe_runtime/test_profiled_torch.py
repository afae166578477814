"""The program that profiles a container, with the real PyTorch on a CPU: `nox -s test-frameworks` installs it."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

from buildkit.profiling.trace_files import sum_torch
from tests.profiling.test_agent import finish, profiled

CODE = """
import sys, torch
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64))
model(torch.randn(8, 64))
print("up", flush=True)
sys.stdin.readline()
with torch.no_grad():
    for _ in range(10):
        model(torch.randn(8, 64))
print("ran", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed: nox -s test-frameworks")
def test_five_steps_of_a_module_are_in_the_trace_of_torch(tmp_path: Path) -> None:
    with profiled(tmp_path, "frameworks", CODE, os.environ.get("PYTHONPATH", "")) as (exchange, child):
        assert child.stdin
        assert child.stdout
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "ran\n"
        (report,) = finish(exchange)
    assert report.problems == ()
    (name,) = report.files
    found = {(one.name, one.where): one for one in sum_torch(json.loads(exchange.read(name))["traceEvents"], name)}
    assert found["aten::addmm", "CPU"].calls == 10, "two layers, five steps"
    assert found["aten::gelu", "CPU"].calls == 5
    assert all(one.seconds > 0 for one in (found["aten::addmm", "CPU"], found["aten::gelu", "CPU"]))
