"""py-spy: a real process is sampled and left as it was; failures say what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from buildkit.errors import BuildError, MissingTool, ToolError
from buildkit.profiling.trace_files import render_samples, sum_functions
from buildkit.tools import py_spy
from buildkit.tools.py_spy import Sampling, explain_failure, record_samples, require_py_spy
from tests.profiling.test_trace_files import SCHEMA

BUSY = """
import time
def spin():
    while True:
        sum(range(1000))
print("up", flush=True)
spin()
"""


def test_a_process_is_sampled_into_a_trace_that_speedscope_takes(tmp_path: Path) -> None:
    with subprocess.Popen((sys.executable, "-c", BUSY), stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout
            child.stdout.readline()
            try:
                record_samples(Sampling(pid=child.pid, rate=50, seconds=1), tmp_path / "trace")
            except BuildError as error:
                if "does not let py-spy" in error.message:
                    pytest.skip(f"{error.message}: {error.output}")
                raise
            assert child.poll() is None, "it goes on"
        finally:
            child.kill()
    document = render_samples(json.loads((tmp_path / "trace").read_text()), "it")
    jsonschema.validate(document, SCHEMA)
    assert sum_functions(document, "it")[0].name == "spin"
    with pytest.raises(BuildError, match="the service ended while it was profiled"):
        record_samples(Sampling(pid=child.pid, rate=50, seconds=1), tmp_path / "none")


def test_failures_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = explain_failure(
        ToolError("failed", output="Error: Permission Denied\nReason: Permission denied (os error 13)")
    )
    assert "does not let py-spy" in refused.message
    assert "ptrace_scope" in refused.hint
    other = ToolError("failed", output="Failed to find python version from target process")
    assert explain_failure(other) is other
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(py_spy, "find_tool", lambda _: None)
    with pytest.raises(MissingTool) as caught:
        require_py_spy()
    assert "xoe-buildkit[profile]" in caught.value.hint
