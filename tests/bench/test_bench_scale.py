"""Large projects for planning: many pins and sparse files, and a plan with all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.bench import scale
from buildkit.bench.results import Results
from buildkit.bench.scale import make_project
from buildkit.bench.tables import make_tables
from buildkit.build.planner import open_planner
from buildkit.build.present_models import PresentModels
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.events import ignore_event
from buildkit.plan.spec import PackFiles, PackModel, PackWheels


@pytest.mark.parametrize(("wheels", "gigabytes", "small_files"), [(10, 0, 0), (400, 2, 0), (10, 64, 60)])
def test_scale_project_plans_every_wheel_and_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: int, gigabytes: int, small_files: int
) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    # reading them is what takes long, wherever it is done
    monkeypatch.setattr(PresentModels, "read_all", lambda _self, models, _lock, _patterns: models)
    project = tmp_path / "project"
    make_project(project, wheels, gigabytes, small_files)
    assert load_graph(project).stages.keys() == {"base", "app"}
    assert load_project(project).name == "scale"
    with open_planner(project, ignore_event) as planner:
        specs = planner.composer.compose("app").specs
    works = [spec.work for spec in specs]
    assert sum(len(work.wheels) for work in works if isinstance(work, PackWheels)) == wheels
    sizes = [file.size for work in works if isinstance(work, PackModel) for file in work.files]
    assert sum(sizes) // 1_000_000 == gigabytes * 1000
    assert len([size for size in sizes if size < 100]) == small_files // 2
    assert sum(len(work.tree.files) for work in works if isinstance(work, PackFiles)) == small_files // 2
    assert sum(path.stat().st_blocks * 512 for path in project.rglob("*.bin")) < 1_000_000


@pytest.mark.tools
def test_scale_measures_time_and_memory_of_whole_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, sizes in (("WHEELS", (1,)), ("GIGABYTES", ()), ("SMALL_FILES", (4,))):
        monkeypatch.setattr(scale, name, sizes)
    rows = tuple(scale.measure_scale(tmp_path, 1, ignore_event))
    assert [(row["wheels"], row["files"]) for row in rows] == [(1, 0), (1, 4)]
    assert all(row["memory"] > 5_000_000 and row["seconds"] > 0 for row in rows), "a whole Python"
    results = Results(machine={}, versions={}, participants={"x": "1"}, workload={}, samples=(), scale=rows)
    (table,) = make_tables(results)
    assert table.rows[1][0] == "1 wheels, 0 GB of models, 4 small files"
    assert table.rows[1][3].endswith(" MB")
    (old,) = make_tables(replace(results, scale=({k: v for k, v in rows[0].items() if k != "memory"},)))
    assert old.rows[0][3] == "?"
