"""Parity: every difference of two stages is found, and only what a file declares is meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from buildkit.cli import parity as session
from buildkit.declare.parity_file import Allowance, load_allowances
from buildkit.declare.toml import edit_toml
from buildkit.errors import DefinitionError
from buildkit.plan.parity import StageDifference, compare_facts, find_idle

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    for name in ("stages", "requirements"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_development_differs_from_runtime_only_where_it_is_meant(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert session.run(project, ("development", "runtime")) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith(" meant, 0 not meant\n")
    assert "nothing needs" not in captured.err  # and nothing is declared in vain


def test_what_is_not_declared_fails(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = project / "stages/development/stage.toml"
    text = edit_toml(stage.read_text("utf-8"), ("config", "env"), {"ORT_DISABLE_TELEMETRY": "0", "DEBUG": "1"})
    stage.write_text(edit_toml(text, ("running", "memory"), "8g"), "utf-8")
    (project / "stages/development/tests/more.py").write_text("")
    assert session.run(project, ("development", "runtime", "--json")) == 1
    found = json.loads(capsys.readouterr().out)
    wrong = {
        (one["what"], one["name"]): (one["first"], one["second"]) for one in found["differences"] if not one["allowed"]
    }
    assert wrong == {
        ("variable", "ORT_DISABLE_TELEMETRY"): ("0", "1"),
        ("variable", "DEBUG"): ("1", ""),
        ("flag", "memory"): ("8g", "1g"),
    }
    assert found["ok"] is False


def test_stages_of_other_roots_differ_in_every_package(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert session.run(project, ("hardened", "runtime")) == 1
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert {("root", "0"), ("system-package", "bash"), ("config", "user"), ("flag", "strict")} <= set(map(tuple, lines))
    assert not any(line[:1] == ["package"] for line in lines)  # the service has the same wheels


def test_an_allowance_covers_its_change_alone_and_one_that_nothing_needs_is_found() -> None:
    added = Allowance(what="package", name="debug*", change="added", why="tools")
    idle = Allowance(what="flag", name="pids", why="x")
    first, second = {("package", "debugpy"): "1", ("package", "numpy"): "2"}, {("package", "numpy"): "3"}
    differences = compare_facts(first, second, (added, idle))
    assert differences == (
        StageDifference(what="package", name="debugpy", first="1", second="", allowed="tools"),
        StageDifference(what="package", name="numpy", first="2", second="3"),
    )
    assert [one.change for one in differences] == ["added", "changed"]
    assert not added.covers("package", "debugpy", "changed")
    assert find_idle(differences, (added, idle)) == (idle,)


def test_a_mistake_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stages/x").mkdir(parents=True)
    (tmp_path / "stages/x/parity.toml").write_text('[[allow]]\nwhat = "packages"\nname = "x"\nwhy = " "\n')
    with pytest.raises(DefinitionError) as raised:
        load_allowances(tmp_path, "x")
    assert [problem.key for problem in raised.value.problems] == ["allow[0].what", "allow[0].why"]
    assert raised.value.problems[0].hint == "did you mean `package`?"
    assert load_allowances(tmp_path, "y") == ()
