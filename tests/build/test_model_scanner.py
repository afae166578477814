"""Model files are scanned at once, and other scanners read them meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random

import pytest

from buildkit.build.context import open_context
from buildkit.build.model_gate import ModelGate
from buildkit.build.model_scanner import ModelScanner
from buildkit.declare.model_allowlist import ModelAllowlist
from buildkit.declare.project import parse_project
from buildkit.digest import FileHash, Key
from buildkit.events import Event, Note, StepProgress, ignore_event
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.spec import Kind, PackModel, Spec
from buildkit.scan import UNKNOWN_CONTENT, Scan
from buildkit.tools.opinion_engines import Engine
from buildkit.tools.second_opinions import SecondOpinions
from tests.waiting import wait_until

_ENGINE = """
def scan_file_path(path):
    open({started!r}, "w").close()
    raise ValueError
"""


def test_other_scanners_read_a_file_while_ours_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, weights = tmp_path / "started", Random(1).randbytes(3 << 20)
    (tmp_path / "picklescan").mkdir()
    (tmp_path / "picklescan/__init__.py").touch()
    (tmp_path / "picklescan/scanner.py").write_text(_ENGINE.format(started=str(started)))
    (tmp_path / "weights.bin").write_bytes(weights)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("buildkit.build.model_scanner.find_engines", lambda: (Engine(name="picklescan", version="0"),))
    seen: list[bool] = []

    def progress(_done: int) -> None:
        seen.append(wait_until(started.exists))

    with open_context(parse_project("", tmp_path), ignore_event) as context:
        scanner = ModelScanner(context, ModelAllowlist())
        with (tmp_path / "weights.bin").open("rb") as file:
            result = scanner.scan("m/weights.bin", FileHash.of(weights), file, progress)
    assert seen
    assert [gap.why for gap in result.gaps] == [UNKNOWN_CONTENT]


@pytest.mark.parametrize(("content", "whole"), [(Random(1).randbytes(1 << 10), False), (b"\x80\x04N.", True)])
def test_others_read_all_of_a_pickle_and_the_beginning_of_what_is_of_no_format(
    content: bytes, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    asked: list[dict[str, int]] = []
    monkeypatch.setattr(SecondOpinions, "ask", lambda _self, _path, **limits: asked.append(limits) or ())
    path = tmp_path / "weights"
    path.write_bytes(content)
    with open_context(parse_project("", tmp_path), ignore_event) as context, path.open("rb") as file:
        ModelScanner(context, ModelAllowlist()).scan("weights", FileHash.of(content), file, lambda _: None)
    assert asked == [{} if whole else {"most": 8 << 20}]


def test_others_read_all_of_a_pickle_that_was_not_recognised_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("buildkit.build.model_scanner.recognise", lambda _source: ())  # a format failed at it
    asked: list[dict[str, int]] = []
    monkeypatch.setattr(SecondOpinions, "ask", lambda _self, _path, **limits: asked.append(limits) or ())
    path, content = tmp_path / "weights", b"\x80\x04N."
    path.write_bytes(content)
    with open_context(parse_project("", tmp_path), ignore_event) as context, path.open("rb") as file:
        ModelScanner(context, ModelAllowlist()).scan("weights", FileHash.of(content), file, lambda _: None)
    assert {} in asked  # and the beginning, at about the same time


def test_builds_that_pack_what_they_have_scanned_keep_no_other_from_scanning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two builds, each packing a model that the other scans next, would wait for each other for ever."""
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("buildkit.build.model_scanner.find_engines", lambda: ())
    weights = Random(1).randbytes(1 << 10)
    path, sha256 = tmp_path / "weights", FileHash.of(weights)
    path.write_bytes(weights)
    project, scans = parse_project("", tmp_path), list[Scan]()

    def scan_elsewhere() -> None:
        with open_context(project, ignore_event) as other, path.open("rb") as again:
            scans.append(ModelScanner(other, ModelAllowlist()).scan("weights", sha256, again, lambda _: None))

    with open_context(project, ignore_event) as context, path.open("rb") as file:
        steps = ModelScanner(context, ModelAllowlist()).scan_in_steps("weights", sha256, file, lambda _: None)
        first = next(steps)  # a build that packs now
        other = threading.Thread(target=scan_elsewhere, daemon=True)
        other.start()
        other.join(timeout=60)
        assert [first, *steps] == [first, *scans]


def test_models_of_reused_layers_are_scanned_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("buildkit.build.model_scanner.find_engines", lambda: ())
    both, notes = threading.Barrier(2), list[str]()

    def emit(event: Event) -> None:
        if isinstance(event, StepProgress):
            both.wait(timeout=60)
        elif isinstance(event, Note):
            notes.append(event.text)

    specs = [reused_model(tmp_path, name) for name in ("one", "two")]
    with open_context(parse_project("", tmp_path), emit) as context:
        ModelGate(context).check_reused(specs)
        assert context.meter.read()["scan"].usage.cpu > 0
        both.abort()  # a verdict that is known needs no progress
        ModelGate(context).check_reused([*specs, reused_model(tmp_path, "gone", write=False)])
    unknown = [f"{name}: unknown format, so not scanned" for name in ("one", "two")]
    absent = "1 model file of reused layers cannot be scanned by the present rules: not on this host"
    assert notes == [*unknown, *unknown, f"{absent} (nox -s scan-models fetches and scans)"]


def reused_model(folder: Path, name: str, *, write: bool = True) -> Spec:
    weights = Random(name).randbytes(1 << 20)  # of no format
    if write:
        (folder / name).write_bytes(weights)
    file = ModelFile(path="weights", sha256=FileHash.of(weights), size=len(weights), source=name)
    model = Model(name=name, version="1", source=RepoSource(path=name), license="MIT", files=(file,))
    work = PackModel(model=model, files=(file,), target="/models")
    return Spec(name=name, kind=Kind.MODEL, recipe="{}", key=Key.of(name.encode()), work=work, history="a test")
