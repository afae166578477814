"""The session `profile` of the real service: three passes, traces that their viewers take, and nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest

from tests.profiling.test_trace_files import SCHEMA
from tests.reference.builds import ROOT
from tests.reference.conftest import Project, speak
from tests.reference.engine import Podman
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.network]


def profile(env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "buildkit", "profile", *words)
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)


def test_service_is_profiled_under_requests_and_nothing_stays(project: Project, podman: Podman, tmp_path: Path) -> None:
    env = podman.env | {"BUILDKIT_CACHE": str(project.cache), "PYTHONPATH": str(ROOT)}
    speak(tmp_path)
    requests = tmp_path / "requests.txt"
    requests.write_text('POST /v1/speech @spoken.wav "Content-Type: audio/wav"\n')
    words = ("--no-build", "--seconds", "1", "--requests", str(requests), "--output", str(tmp_path / "out"))
    done = profile(env, "runtime", "--json", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert list(summary["passes"]) == ["cpu", "frameworks", "memory"]
    for load in summary["passes"].values():
        assert load["requests"] > 0
        assert load["failed"] == 0
        assert set(load["answers"]) == {"200"}
    assert any(one["name"].endswith("Session.run") for one in summary["functions"]), "it ran the model"
    assert {"onnxruntime"} == {one["framework"] for one in summary["operators"]}
    assert any(one["file"].startswith("/app/") for one in summary["memory"])
    assert summary["peak"] > 50 << 20
    folder = Path(summary["folder"])
    assert json.loads((folder / "summary.json").read_text()) == summary
    for name in summary["files"]:
        trace = json.loads((folder / name).read_text())
        if name.endswith(".speedscope.json"):
            jsonschema.validate(trace, SCHEMA)
            assert trace["profiles"][0]["samples"]
        else:
            assert {"name", "ph", "ts", "pid"} <= trace[0].keys(), "Chrome's trace events"
    assert [path.name for path in folder.parent.iterdir() if path.name != ".lock"] == [folder.name]
    left = subprocess.run(("podman", "ps", "--all", "--quiet"), env=env, capture_output=True, text=True, check=True)
    assert left.stdout == ""


def test_stages_and_requests_that_cannot_be_are_one_message(project: Project, podman: Podman, tmp_path: Path) -> None:
    env = podman.env | {"BUILDKIT_CACHE": str(project.cache), "PYTHONPATH": str(ROOT)}
    (tmp_path / "requests.txt").write_text("GET /\nFETCH /\n")
    for words, code, said in (
        (("nothing",), 2, "nothing"),
        (("wheels",), 2, "stages/wheels/stage.toml"),
        (("builder",), 2, "stages/builder/stage.toml"),
        (("runtime", "--requests", str(tmp_path / "requests.txt")), 2, "requests.txt:2: 'FETCH' is no method"),
        (("runtime", "--seconds", "601"), 2, "must be at most 600"),
    ):
        done = profile(env | {"PATH": os.environ["PATH"]}, *words, "--no-build")
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_service_that_dies_and_ctrl_c_leave_nothing(project: Project, podman: Podman, tmp_path: Path) -> None:
    env = podman.env | {"BUILDKIT_CACHE": str(project.cache), "PYTHONPATH": str(ROOT)}
    words = ("runtime", "--no-build", "--seconds", "600", "--only", "frameworks", "--output", str(tmp_path / "out"))
    for interrupted in (False, True):
        with subprocess.Popen(
            (sys.executable, "-m", "buildkit", "profile", *words), cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        ) as child:  # fmt: skip
            try:
                wait_until(lambda: list(tmp_path.glob("out/.making-*/.pass-*/out/started-*")) != [])
                if interrupted:
                    os.killpg(child.pid, signal.SIGINT)
                else:
                    subprocess.run(("podman", "kill", "xoe-profile-runtime"), env=env, check=True, capture_output=True)
                _, errors = child.communicate(timeout=120)
            finally:
                child.kill()
        assert child.returncode == (130 if interrupted else 1), errors
        assert ("interrupted" if interrupted else "the service ended while it was profiled (exit code 137)") in errors
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
        left = subprocess.run(("podman", "ps", "--all", "--quiet"), env=env, capture_output=True, text=True, check=True)
        assert left.stdout == ""
