"""ci/publish-races: results of races become figures of docs/benchmarks.md."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.bench.output import write_results
from buildkit.bench.results import Sample
from tests.bench.races import OURS, race, samples

ROOT = Path(__file__).parents[2]
MACHINE = {"kernel": "6.18.1-x", "system": "Debian 12", "file system": "ext4"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "ci").mkdir()
    shutil.copy(ROOT / "ci/publish-races", tmp_path / "ci")
    (tmp_path / "docs/images").mkdir(parents=True)
    shutil.copy(ROOT / "docs/benchmarks.md", tmp_path / "docs")
    return tmp_path


def make_race(checkout: Path, goal: str, *groups: list[Sample]) -> str:
    results = race(*groups, participants={OURS: "1", "buildah": "1.28.2", "buildkitd": "0.32.2"})
    folder = checkout / f"race-{goal}"
    write_results(replace(results, machine={**results.machine, **MACHINE}), folder)
    (folder / f"{goal}.svg").write_text(f"a picture of {goal}")
    return str(folder)


def publish(checkout: Path, *folders: str) -> tuple[str, str]:
    argv = (sys.executable, str(checkout / "ci/publish-races"), *folders)
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    return done.stdout, (checkout / "docs/benchmarks.md").read_text()


def test_figures_of_raced_goals_replace_the_former_ones(checkout: Path) -> None:
    before = (checkout / "docs/benchmarks.md").read_text()
    light = make_race(
        checkout,
        "runnable",
        samples([0.4, 0.5, 0.6]),
        samples([9.0, 8.0, 10.0], "buildah"),
        samples([1.0], scenario="one-model"),
        samples([5.0], "buildah", scenario="one-model"),
    )
    pushed = make_race(
        checkout, "pushed", samples([0.5], scenario="nothing", until="pushed"),
        samples([0.1], "buildkitd", scenario="nothing", until="pushed"),
    )  # fmt: skip
    said, page = publish(checkout, light, pushed)
    assert "| one light pin | 0.50 s (0.40–0.60) | 9.0 s (8.0–10.0) | 18.0× | 18× |" in page
    assert "| one model | 1.0 s | 5.0 s | 5.0× | 8× |" in page
    assert "| nothing changed | 0.50 s | 0.10 s | 0.40 s behind | ≤ 0.2 s behind |" in page
    assert "buildah 1.28.2" in page
    assert "runnable, one model: 1.00 s, 5.0×, aim 8×" in said
    assert (checkout / "docs/images/bench-pushed.svg").read_text() == "a picture of pushed"
    fresh = before.partition("<!-- figures of fresh -->")[2].partition("<!-- end of figures -->")[0]
    assert fresh in page, "a goal that was not raced keeps its figures"
    assert before.partition("<!-- figures of runnable -->")[0] in page
    assert publish(checkout, light, pushed)[1] == page


def test_every_goal_has_its_place_in_the_documentation() -> None:
    page = (ROOT / "docs/benchmarks.md").read_text()
    for goal in ("runnable", "pushed", "fresh"):
        assert f"<!-- figures of {goal} -->\n" in page
    assert page.count("<!-- end of figures -->") == 3
