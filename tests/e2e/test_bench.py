"""A real race: the tiny project against buildah, in three scenarios, with every image inspected."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from buildkit.bench.results import render_results
from tests.bench.races import race, samples
from tests.e2e.tinyproject import Tiny
from tests.waiting import wait_until

pytestmark = pytest.mark.tools

_OURS = "xoe-buildkit"
_DAEMONS = {"docker": "dockerd", "buildkitd": "buildkitd"}
NAMES = ("cold", "app-line", "one-model")


@pytest.fixture
def plain(tiny: Tiny) -> Tiny:
    """The tiny project without wheels: its root has no Python that a peer could install them with."""
    tiny.replace("stages/app/stage.toml", 'include = ["deps", "models"]', 'include = ["models"]')
    tiny.git("commit", "--quiet", "--all", "--message=No wheels")
    return tiny


def _race(tiny: Tiny, *arguments: str, code: int = 0) -> tuple[dict, str]:
    ended = tiny.run("bench-build", "--repeat", "1", "--output", str(tiny.folder / "race"), *arguments)
    assert ended.code == code, ended.text
    return json.loads((tiny.folder / "race/results.json").read_text()), ended.text


def test_short_race_has_correct_results_and_leaves_nothing(plain: Tiny) -> None:
    before = plain.snapshot()
    results, text = _race(plain, "--no-push", "--peer", "buildah", "--scenario", *NAMES)
    assert [(one["scenario"], one["participant"], one["verdict"], one["note"]) for one in results["samples"]] == [
        (name, who, "right", "") for name in NAMES for who in ("xoe-buildkit", "buildah")
    ]
    assert {one["until"] for one in results["samples"]} == {"runnable"}
    assert all(one["seconds"] > 0 and one["cpu"] > 0 for one in results["samples"])
    assert all(one["space"] > 1_000_000 for one in results["samples"] if one["scenario"] == "cold")
    ours = [one for one in results["samples"] if one["participant"] == "xoe-buildkit"]
    assert all("deliver" in one["phases"] for one in ours if one["scenario"] != "nothing")
    assert not any("import" in one["phases"] for one in ours)
    assert len(results["calibrations"]) == 3
    _check_output(plain.folder / "race")
    assert "one application line" in text
    assert list((plain.folder / "tmp").glob("bkb-*")) == [], "the arena is gone"
    assert plain.snapshot() == before, "the user's cache and storage know nothing of a race"
    assert plain.left_over() == []


def _check_output(folder: Path) -> None:
    svg = ET.fromstring((folder / "runnable.svg").read_text())
    assert sum(node.get("class") in ("bar-ours", "bar-buildah") for node in svg.iter()) == 2 * len(NAMES) + 2
    report = (folder / "report.md").read_text()
    assert "| one model |" in report
    assert "buildah" in report


def test_pushes_upload_only_changes_and_a_fresh_runner_reuses_the_rest(plain: Tiny) -> None:
    peers = [name for name, tool in _DAEMONS.items() if shutil.which(tool)]
    (plain.project / "models/greeter/large.bin").write_bytes(random.Random(1).randbytes(3_000_000))
    plain.lock()
    scenarios = ("--scenario", "cold", "elsewhere", "app-line")
    results, _ = _race(plain, "--until", "pushed", "fresh", "--repeat", "2", "--peer", *peers, *scenarios)
    found = {(one["until"], one["scenario"], one["participant"]): one for one in results["samples"]}
    assert {one["verdict"] for one in results["samples"]} <= {"right", "excess"}, results["samples"]
    assert {one["participant"] for one in results["samples"]} == {_OURS, *peers}
    for peer in peers:
        assert found["pushed", "cold", peer]["up"] > 3_000_000, "uploaded in each repetition, which starts from nothing"
        assert found["pushed", "app-line", peer]["up"] < 100_000
    cold, elsewhere, line = (found["pushed", name, _OURS] for name in ("cold", "elsewhere", "app-line"))
    assert cold["up"] > 3_000_000
    assert cold["down"] > 1_000_000, "the root comes down"
    for one in (elsewhere, line, found["fresh", "app-line", _OURS]):
        assert 0 < one["up"] < 100_000
    assert {one["verdict"] for one in results["samples"] if one["participant"] == _OURS} == {"right"}


def test_missing_peer_is_reported_and_the_others_race(plain: Tiny) -> None:
    folder = plain.folder / "bin"
    folder.mkdir()
    for name in ("git", "skopeo", "docker-registry", "du", "env", "sh", "umount", "rm"):
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    ended = plain.run(
        "bench-build", "--until", "pushed", "--repeat", "1", "--scenario", "nothing",
        "--output", str(plain.folder / "race"), PATH=str(folder),
    )  # fmt: skip
    assert ended.code == 0, ended.text
    results = json.loads((plain.folder / "race/results.json").read_text())
    why = {one["participant"]: one["why"] for one in results["skipped"]}
    assert why["buildah"] == "buildah is not installed"
    assert why["buildkitd"] == "buildkitd is not installed"
    assert {one["participant"] for one in results["samples"]} == {"xoe-buildkit"}


def test_ctrl_c_ends_the_race_and_keeps_its_measurements(plain: Tiny) -> None:
    found = plain.folder / "race/results.json"
    argv = plain.argv("bench-build", "--no-push", "--repeat", "9", "--output", str(found.parent))
    child = subprocess.Popen(
        argv, cwd=plain.folder, env=plain.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: found.exists() or child.poll() is not None)
    os.killpg(child.pid, signal.SIGINT)
    text, _ = child.communicate(timeout=60)
    assert child.returncode == 130, text
    assert "Traceback" not in text
    assert json.loads(found.read_text())["samples"]
    assert list((plain.folder / "tmp").glob("bkb-*")) == []
    assert not [line for line in _running() if str(plain.folder) in line]


def _running() -> Iterator[str]:
    """Command lines of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended in the meantime
            yield path.read_text("utf-8", "replace")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "warm"), "invalid choice: 'warm'"),
        (("--workload", "/nowhere"), "/nowhere holds no stages/"),
        (("--stage", "nothing"), "there is no stage `nothing`"),
        (("--fail-over", "much"), "must be a percentage"),
        (("--compare", "/nowhere/old.json"), "/nowhere/old.json"),
    ],
)
def test_wrong_bench_request_is_refused(tiny: Tiny, arguments: tuple[str, ...], words: str) -> None:
    ended = tiny.run("bench-build", *arguments)
    assert ended.code == 2, ended.text
    assert words in ended.text
    assert "hint: " in ended.text
    assert "Traceback" not in ended.text


def test_results_of_another_workload_are_refused_before_the_race(plain: Tiny) -> None:
    old = plain.folder / "old.json"
    results = race(samples((1.0,)))
    old.write_text(render_results(replace(results, workload={"name": "reference", "stage": "app", "wheels": 67})))
    ended = plain.run("bench-build", "--output", str(plain.folder / "race"), "--compare", str(old))
    assert ended.code == 2, ended.text
    assert "error: --compare: these are results of another workload: wheels 67 then, 0 now; " in ended.text
    assert "hint: race the same --workload" in ended.text
    assert not (plain.folder / "race").exists()
