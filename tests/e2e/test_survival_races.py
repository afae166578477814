"""Many builds at once, in processes of their own: no layer is built twice, no error, the same digests."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.survival import left_behind, make_rng, unsound, wipe
from tests.e2e.tinyproject import Tiny
from tests.waiting import wait_until

pytestmark = pytest.mark.tools

_STEP = """summary = "app on a root that a step extends"
from = "app"
[[run]]
name = "write"
script = "echo made > /opt/made"
"""


@pytest.fixture
def shared(tiny: Tiny) -> Tiny:
    tiny.write("stages/tools/stage.toml", _STEP)
    return tiny


def build_at_once(tiny: Tiny, wanted: Sequence[tuple[Path, str]], pauses: Sequence[float] = ()) -> list[dict[str, Any]]:
    """Build stages of projects in concurrent processes, each after a pause; return their reports."""
    started = []
    for number, (project, stage) in enumerate(wanted):
        report = tiny.folder / f"report-{number}"
        wait = ("sh", "-c", 'sleep "$0" && exec "$@"', str(pauses[number] if pauses else 0))
        argv = (*tiny.argv(f"build-{stage}", "--json", str(report)),)
        argv = tuple(str(project / "noxfile.py") if part == str(tiny.project / "noxfile.py") else part for part in argv)
        child = subprocess.Popen(
            (*wait, *argv), cwd=tiny.folder, env=tiny.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append((child, report))
    for child, _ in started:
        output, _ = child.communicate(timeout=120)
        assert child.returncode == 0, output
        assert "warning" not in output
    return [json.loads(report.read_text()) for _, report in started]


def times_built(tiny: Tiny) -> dict[str, set[int]]:
    """How often each layer was built, by its name; different layers may have one name."""
    found: dict[str, set[int]] = {}
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db:
        for name, times in db.execute("SELECT name, times FROM layers"):
            found.setdefault(name, set()).add(times)
    return found


def check(tiny: Tiny, reports: Sequence[dict[str, Any]]) -> None:
    """Nothing was built or fetched twice, and nothing is wrong or left."""
    assert set().union(*times_built(tiny).values()) == {1}
    built = [layer["key"] for report in reports for layer in report["layers"] if layer["source"] == "built"]
    assert sorted(built) == sorted(set(built))
    downloads = sum(path.stat().st_size for path in tiny.cache.glob("files/*/*"))
    assert sum(report["bytes"]["fetched"] for report in reports) == downloads
    assert left_behind(tiny) == []
    assert unsound(tiny) == []


def test_concurrent_builds_of_one_stage_build_each_layer_once(shared: Tiny) -> None:
    rng = make_rng("one stage")
    digests = set()
    for pauses in ([0.0] * 8, [rng.uniform(0, 1.5) for _ in range(8)]):
        reports = build_at_once(shared, [(shared.project, "tools")] * 8, pauses)
        check(shared, reports)
        digests |= {report["digest"] for report in reports}
        assert shared.run_image("tools", "cat", "/opt/made") == "made\n"
        wipe(shared)
    assert len(digests) == 1


def test_concurrent_builds_of_different_stages_build_each_layer_once(shared: Tiny) -> None:
    rng = make_rng("different stages")
    alone = {stage: shared.build(stage).report["digest"] for stage in ("app", "deps", "models", "tools")}
    for pause in (0.0, 1.0):
        wipe(shared)
        stages = [*alone, *alone]
        rng.shuffle(stages)
        pauses = [rng.uniform(0, pause) for _ in stages]
        reports = build_at_once(shared, [(shared.project, stage) for stage in stages], pauses)
        check(shared, reports)
        assert [report["digest"] for report in reports] == [alone[stage] for stage in stages]
        for stage, digest in alone.items():
            assert f"localhost/tiny/{stage}@{digest}" in shared.inspect(stage)["RepoDigests"]


def test_concurrent_checkouts_with_one_cache_build_common_layers_once(shared: Tiny) -> None:
    """Each has its own application file; one of them builds the common layers for all."""
    checkouts = []
    for number in range(8):
        copy = shared.folder / f"checkout-{number}"
        shutil.copytree(shared.project, copy)
        pyproject = (copy / "pyproject.toml").read_text()
        (copy / "pyproject.toml").write_text(pyproject.replace('name = "tiny"', f'name = "branch{number}"'))
        (copy / "stages/app/app/main.sh").write_text(f"echo branch {number}\n")
        checkouts.append(copy)
    reports = build_at_once(shared, [(copy, "app") for copy in checkouts])
    check(shared, reports)
    assert len({report["digest"] for report in reports}) == 8
    for number in (0, 7):
        name = f"localhost/branch{number}/app:latest"
        assert shared.tool("podman", "run", "--rm", "--network=none", name) == f"branch {number}\n"


def test_image_name_moved_by_concurrent_branches_is_one_complete_image(shared: Tiny) -> None:
    """Eight worktrees of one project move one name; at the end it is the complete image of one of them."""
    checkouts = []
    for number in range(8):
        copy = shared.folder / f"checkout-{number}"
        shutil.copytree(shared.project, copy)
        (copy / "stages/app/app/main.sh").write_text(f"echo branch {number}\n")
        checkouts.append(copy)
    reports = build_at_once(shared, [(copy, "app") for copy in checkouts])
    check(shared, reports)
    number = int(shared.run_image("app").removeprefix("branch "))
    assert f"localhost/tiny/app@{reports[number]['digest']}" in shared.inspect("app")["RepoDigests"]


def test_containers_of_running_builds_are_not_swept(shared: Tiny) -> None:
    shared.build("app")
    shared.replace("stages/tools/stage.toml", "echo made", "sleep 2; echo made")
    slow = shared.start("tools")
    wait_until(lambda: bool(shared.containers()))
    shared.build("models")
    assert len(shared.containers()) == 1
    output, _ = slow.communicate(timeout=60)
    assert slow.returncode == 0, output
    assert left_behind(shared) == []
    assert shared.run_image("tools", "cat", "/opt/made") == "made\n"
