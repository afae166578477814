"""What a monitor knows of a checkout: last builds as metrics, and when the project is opened for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.errors import DefinitionError
from buildkit.inspection import checkout_watch
from buildkit.inspection.checkout_watch import CheckoutWatch, build_families
from buildkit.monitor.metrics import render_metrics
from tests.monitor.test_metrics import read


def test_the_last_build_of_each_stage_is_told_by_phases_and_layers() -> None:
    report = {
        "seconds": 7,
        "layers": [{"source": "built"}, {"source": "cache"}, {"source": "cache"}],
        "timings": {"pack": {"seconds": 3.5, "cpu": 3, "read": 1, "written": 1}},
    }
    older = {"seconds": 1.5, "layers": []}  # a report of an earlier version has no phases
    found = read(render_metrics(build_families({"runtime": (100.0, report), "base": (50.0, older)})))
    seconds = {(dict(x)["stage"], dict(x)["phase"]): value for x, value in found["xoe_build_duration_seconds"].items()}
    assert seconds == {("base", "all"): 1.5, ("runtime", "all"): 7, ("runtime", "pack"): 3.5}
    layers = {dict(x)["outcome"]: v for x, v in found["xoe_build_layers"].items() if dict(x)["stage"] == "runtime"}
    assert layers == {"built": 1, "cache": 2, "storage": 0, "shared": 0}
    assert found["xoe_build_started_seconds"] == {(("stage", "base"),): 50, (("stage", "runtime"),): 100}


def test_a_broken_project_is_not_opened_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    open_planner = checkout_watch.open_planner
    monkeypatch.setattr(checkout_watch, "open_planner", lambda *words: opened.append(words[0]) or open_planner(*words))
    now = [1000.0]
    (tmp_path / "pyproject.toml").write_text("[tool.buildkit]\nname = 7\n")
    watch = CheckoutWatch(tmp_path, {"image": "stage"}, lambda: now[0])
    with pytest.raises(DefinitionError):
        watch.ask()
    assert watch.expected(("image", "other")) == {}
    for _ in range(5):
        now[0] += 5
        assert watch.ask() == ()
    assert len(opened) == 1
    now[0] += 5
    with pytest.raises(DefinitionError):
        watch.ask()
