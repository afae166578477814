"""The folder of a profile appears whole or not at all, and belongs to one session at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildkit.declare.stage import Running
from buildkit.errors import BuildError, DefinitionError
from buildkit.inspection import profile_session
from buildkit.inspection.profile_run import Profiling
from buildkit.profiling.load import LoadCounts
from buildkit.running.flags import ContainerSpec

PROFILING = Profiling(container=ContainerSpec(image="i", name="n", running=Running()))
TRACE = {
    "shared": {"frames": [{"name": "f"}]},
    "profiles": [{"samples": [[0]], "weights": [1.5]}],
}


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != ".lock"]


def test_a_profile_appears_with_its_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".making-killed").mkdir()

    def sample(profiling: Profiling, output: Path) -> LoadCounts:
        with pytest.raises(DefinitionError, match="another session profiles this stage"):
            profile_session.run_profile(profiling, ("cpu",), ("app", tmp_path), print)
        output.write_text(json.dumps(TRACE))
        return LoadCounts()

    monkeypatch.setattr(profile_session, "profile_cpu", sample)
    summary = profile_session.run_profile(PROFILING, ("cpu",), ("app", tmp_path), lambda _: None)
    assert visible(tmp_path) == [Path(summary.folder).name]
    assert sorted(path.name for path in Path(summary.folder).iterdir()) == ["cpu.speedscope.json", "summary.json"]
    written = json.loads((Path(summary.folder) / "summary.json").read_text())
    assert written["functions"] == [{"name": "f", "file": "", "line": 0, "own": 1.5, "total": 1.5}]
    assert [title for title, _, _ in summary.tables()] == ["requests", "functions by their own time"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, BuildError("the service ended")])
def test_nothing_half_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException | type[BaseException]
) -> None:
    def fail(_: Profiling, output: Path) -> LoadCounts:
        output.write_text("half")
        raise failure

    monkeypatch.setattr(profile_session, "profile_cpu", fail)
    with pytest.raises((KeyboardInterrupt, BuildError)):
        profile_session.run_profile(PROFILING, ("cpu",), ("app", tmp_path), lambda _: None)
    assert visible(tmp_path) == []
