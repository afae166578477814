"""The reference project's model, derived by onnxruntime's own tools in a locked stage, in a copy of the project."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.otlpcollector import serve_collector
from tests.reference.builds import IMPORTED, copy_project
from tests.reference.conftest import Project

pytestmark = [pytest.mark.tools, pytest.mark.network]

STAGE = 'summary = "where models are derived"\nfrom = "base"\n\n[wheels]\nlocks = ["requirements/optimiser.txt"]\n'
METRIC = """
import numpy as np

def agreement(model, data):
    random = np.random.default_rng(int((data / "seed.txt").read_text()))
    state = np.zeros((1, 1, 128), np.float32)
    means = []
    for _ in range(4):
        windows = (random.standard_normal((50, 576)) * 0.05).astype(np.float32)
        means.append(float(np.abs(model({"input": windows, "h": state, "c": state})[0]).mean()))
    return 1 - float(np.mean(means))
"""
JUDGED = ("--data", "path:evaluation/data", "--metric", "evaluation/judge.py:agreement", "--max-loss", "0.2")
NAME = "silero-vad-static-int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy of the project with a stage `optimiser`, and the cache that has the root."""

    folder: Path
    cache: Path

    def start(self, *words: str) -> subprocess.Popen[str]:
        env = dict(os.environ) | {"BUILDKIT_CACHE": str(self.cache), **IMPORTED}
        argv = [sys.executable, "-m", "buildkit", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(argv, cwd=self.folder, env=env, text=True, **pipes)

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        output = process.communicate()[0]
        assert process.returncode == code, output
        return output

    @property
    def lock(self) -> Path:
        return self.folder / "requirements/models.lock"

    def derived(self, name: str = NAME) -> dict[str, Any]:
        models = tomllib.loads(self.lock.read_text("utf-8"))["model"]
        return next(model for model in models if model["name"] == name)

    def cached(self) -> Path:
        (file,) = self.derived()["file"]
        return self.cache / "files" / file["sha256"] / file["path"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, project: Project) -> Copy:
    """The copy, whose model was compared by `optimise`, and the choice written and locked."""
    made = Copy(folder=copy_project(tmp_path_factory.mktemp("derived") / "project"), cache=project.cache)
    (made.folder / "stages/optimiser").mkdir()
    (made.folder / "stages/optimiser/stage.toml").write_text(STAGE)
    (made.folder / "requirements/optimiser.in").write_text("onnx\nonnxruntime\n")
    (made.folder / "evaluation/data").mkdir(parents=True)
    (made.folder / "evaluation/judge.py").write_text(METRIC)
    (made.folder / "evaluation/data/seed.txt").write_text("1")
    made.run("lock")
    variants = ("--only", "static-int8", "--only", "dynamic-uint8", "--only", "extended", "--seconds", "1")
    made.run("optimise", "silero-vad", *JUDGED, *variants, "--svg", "v.svg", "--write", "static-int8")
    return made


def test_chosen_variant_is_written_locked_and_current(copy):
    text = (copy.folder / "requirements/models.toml").read_text("utf-8")
    assert "# Models of the reference service" in text  # comments stay
    assert tomllib.loads(text)["derive"][0]["gate"]["max-loss"] == 0.2
    model = copy.derived()
    assert model["source"] == "derive:silero-vad"
    assert model["derived"]["report"]["quantised"] == "Conv 6"
    assert not any("latency" in name or "time" in name for name in model["derived"]["report"])
    assert all(float(f"{end:.3g}") == end for pair in model["derived"]["ranges"].values() for end in pair)
    assert "static-int8" in (copy.folder / "v.svg").read_text("utf-8")
    with serve_collector() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        assert copy.run("derive", "--check") == f"{NAME}: current\n"
    assert [span.name for span in collector.spans if not span.parent_span_id] == ["derive"]


def test_build_makes_a_file_again_that_no_cache_has_and_explains_it(copy):
    before, path = copy.lock.read_bytes(), copy.cached()
    path.unlink()
    assert "derive  " + NAME in copy.run("build", "models", "--no-import")
    assert path.exists()
    assert copy.lock.read_bytes() == before
    (layer,) = json.loads(copy.run("explain", "models", f"models/{NAME}", "--json"))["layers"]
    assert layer["derived"]["from"] == "silero-vad"
    assert layer["derived"]["measured"]["ratios"]["latency"] > 0
    assert layer["derived"]["measured"]["processor"]
    sbom = json.loads(
        (copy.run("sbom", "models", "--output", "s.json"), (copy.folder / "s.json").read_text("utf-8"))[1]
    )
    component = next(part for part in sbom["components"] if part["name"] == NAME)
    assert component["pedigree"]["ancestors"][0]["name"] == "silero-vad"


def test_other_bytes_than_the_lock_names_stop_a_build_and_name_the_processors(copy):
    whole, sha256 = copy.lock.read_text("utf-8"), copy.derived()["file"][0]["sha256"]
    copy.lock.write_text(whole.replace(sha256, "5" * 64))
    try:
        output = copy.run("build", "models", "--no-import", code=1)
    finally:
        copy.lock.write_text(whole)
    assert re.search(rf"error: {NAME}: onnx-quantise-static makes another silero_vad_16k_sequence.onnx here", output)
    assert "the lock was made on a processor `x86_64" in output or "aarch64" in output


def test_failed_gate_tells_every_figure_and_leaves_the_lock(copy):
    models = copy.folder / "requirements/models.toml"
    text, before = models.read_text("utf-8"), copy.lock.read_bytes()
    gate = '[derive.gate]\ndata = "path:evaluation/data"\nmetric = "evaluation/judge.py:agreement"\n'
    limits = "max-loss = 0\nmax-size = 0.01\nmax-latency = 0.001\n"
    tool = '[[derive]]\nname = "worse"\nfrom = "silero-vad"\ntool = "onnx-quantise-dynamic"\n'
    models.write_text(f"{text}\n{tool}options = {{ weight-type = 'QUInt8' }}\n{gate}{limits}")
    try:
        output = copy.run("derive", "worse", "--seconds", "1", code=1)
        assert copy.lock.read_bytes() == before
        assert "worse: not derived yet" in copy.run("lock")
        assert "`model worse`: is not derived yet" in copy.run("build", "models", "--no-import", code=2)
    finally:
        models.write_text(text)
        copy.lock.write_bytes(before)
    error = next(line for line in output.splitlines() if line.startswith("error: worse is refused"))
    for said in ("its metric is worse by", "of the bytes of silero-vad", "a call takes"):
        assert said in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_derivation_that_ends_early_leaves_nothing_half_believed(copy, number):
    before = copy.lock.read_bytes()
    process = copy.start("derive", NAME, "--again", "--seconds", "30")
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().endswith("measure"):
            process.send_signal(number)
            break
    rest = process.communicate()[0]
    assert process.returncode == (130 if number == signal.SIGINT else -number), rest
    assert copy.lock.read_bytes() == before
    assert copy.run("derive", "--check") == f"{NAME}: current\n"
    if number == signal.SIGKILL:  # what it could not remove, the next one does
        copy.cached().unlink()
        copy.run("build", "models", "--no-import")
    assert not list(copy.cache.glob("boxes/*"))
