"""`ci/bench` and `bench.yml` if a race fails; a script replaces `ci/bootstrap`, which would run the race."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ci.runner import Machine, Workflow

ROOT = Path(__file__).resolve().parents[2]
_HELP = """usage: nox -s bench-build -- [-h] [--workload W] [--scenario NAME [NAME ...]] [--peer [NAME ...]]
  --repeat N       repetitions; 3 unless said
  --workload W     reference (this project), heavy, or a project's folder
  --scenario NAME  only these of cold, one-model
  --peer NAME      only these of buildah, buildkitd-stages
  --output FOLDER  for results"""
_BOOTSTRAP = """#!/usr/bin/env bash
if [[ $* == *--help ]]; then
    printf '%s\\n' '{help}'
    exit
fi
echo "{who}: $*" >>"$LOG"
folder=$(sed 's/.*--output \\([^ ]*\\).*/\\1/' <<<"$*")
if [[ -n '{results}' ]]; then mkdir -p "$folder" && echo '{results}' >"$folder/results.json"; fi
echo "error: what {who} says" >&2
exit {code}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Replace ``ci/bootstrap`` of a commit: the race leaves ``results`` and ends with ``code``."""

    who: str
    code: int = 0
    results: str = "{}"
    help: str = _HELP.replace("'", "’")

    def write(self, folder: Path) -> None:
        """Be that of a checkout."""
        path = folder / "ci/bootstrap"
        path.write_text(_BOOTSTRAP.format(who=self.who, code=self.code, results=self.results, help=self.help))
        path.chmod(0o755)


NEW = Script(who="new")
GATE = "--compare reports/bench-before/results.json --fail-over 15%"


def history(folder: Path, old: Script, new: Script = NEW) -> Path:
    """A repository of two commits."""
    checkout = folder / "checkout"
    (checkout / "ci").mkdir(parents=True)
    shutil.copy(ROOT / "ci/bench", checkout / "ci")
    git = ("git", "-c", "user.name=N", "-c", "user.email=n@example.org")
    subprocess.run((*git, "init", "--quiet", "--initial-branch=main"), cwd=checkout, check=True)
    (checkout / ".gitignore").write_text(".nox\nreports\n")
    for script, date in ((old, "@1500000000 +0000"), (new, "@4000000000 +0000")):
        script.write(checkout)
        env = os.environ | {"GIT_COMMITTER_DATE": date}
        subprocess.run((*git, "add", "."), cwd=checkout, check=True)
        subprocess.run((*git, "commit", "--quiet", f"--message={script.who}"), cwd=checkout, check=True, env=env)
    return checkout


def bench(checkout: Path, **env: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run ``ci/bench``; return its output and the races."""
    log = checkout.parent / "log"
    log.touch()
    known = {name: value for name, value in os.environ.items() if name not in ("BENCH_OPTIONS", "FAIL_OVER")}
    done = subprocess.run(
        ("ci/bench",), cwd=checkout, env=known | {"LOG": str(log)} | env, capture_output=True, text=True, timeout=60
    )
    return done, [line.replace(f"{checkout}/", "") for line in log.read_text().splitlines()]


@pytest.mark.parametrize("code", [0, 1])
def test_failures_in_the_older_race_do_not_fail_this_one(tmp_path: Path, code: int) -> None:
    checkout = history(tmp_path, Script(who="old", code=1), Script(who="new", code=code))
    done, raced = bench(checkout, BENCH_OPTIONS="--peer buildah")
    assert raced == [
        "old: nox -s bench-build -- --peer buildah --output reports/bench-before",
        f"new: nox -s bench-build -- --peer buildah {GATE} --output reports/bench",
    ]
    assert done.returncode == code, done.stderr
    assert "bench: parts of that race failed" in done.stderr


@pytest.mark.parametrize(
    ("old", "code"),
    [
        (Script(who="old", code=1, results=""), 1),
        (Script(who="old", code=0, results=""), 1),
        (Script(who="old", code=2), 2),
        (Script(who="old", code=130), 130),
    ],
)
def test_missing_results_of_the_older_commit_stop_the_script(tmp_path: Path, old: Script, code: int) -> None:
    checkout = history(tmp_path, old)
    stale = checkout / "reports/bench-before/results.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("of another day")
    done, raced = bench(checkout)
    assert done.returncode == code, done.stderr
    assert [line.partition(":")[0] for line in raced] == ["old"]
    assert "error: what old says" in done.stderr
    assert "bench: error: " in done.stderr
    assert "could not be raced" in done.stderr


OPTIONS = "--workload heavy --scenario cold base one-model --peer buildah buildkitd --deep 3 2 --repeat 5"


def test_older_commit_gets_only_options_that_it_knows(tmp_path: Path) -> None:
    done, raced = bench(history(tmp_path, Script(who="old")), BENCH_OPTIONS=OPTIONS)
    assert done.returncode == 0, done.stderr
    known = "--workload heavy --scenario cold one-model --peer buildah --repeat 5"
    assert raced[0] == f"old: nox -s bench-build -- {known} --output reports/bench-before"
    assert raced[1] == f"new: nox -s bench-build -- {OPTIONS} {GATE} --output reports/bench"
    assert "bench: ignored, because that commit does not know them: base buildkitd --deep 3 2\n" in done.stderr


def test_older_commit_names_its_options_in_its_help(tmp_path: Path) -> None:
    """The help of the fake has the form of the real one."""
    helped = subprocess.run(
        (sys.executable, "-m", "nox", "-s", "bench-build", "--", "--help"), cwd=ROOT, capture_output=True, text=True,
        check=True, env=os.environ | {"COLUMNS": "1000"},
    )  # fmt: skip
    options = "--workload heavy --stage app --scenario cold light-pin --until fresh --peer buildah buildkitd --repeat 5"
    old = Script(who="old", help=helped.stdout.replace("'", "’"))
    done, raced = bench(history(tmp_path, old), BENCH_OPTIONS=f"{options} --no-push")
    assert done.returncode == 0, done.stderr
    assert raced[0] == f"old: nox -s bench-build -- {options} --no-push --output reports/bench-before"


def test_commit_without_a_race_is_refused(tmp_path: Path) -> None:
    checkout = history(tmp_path, Script(who="old", help="'; exit 3; echo '"))
    done, raced = bench(checkout)
    assert (done.returncode, raced) == (1, [])
    assert "cannot race builds" in done.stderr


def run_workflow(tmp_path: Path, old: Script, new: Script) -> tuple[str, str, str]:
    """Result, log and summary of the job."""
    checkout = history(tmp_path, old, new)

    def machine(_permissions: Mapping[str, str]) -> Machine:
        return Machine(folder=tmp_path / "machine", env={**os.environ, "LOG": str(tmp_path / "log")})

    (job,) = Workflow(ROOT / ".github/workflows/bench.yml").run(checkout, {}, machine, tmp_path / "run").jobs
    return job.result, job.log, job.summary


def test_missing_report_does_not_hide_the_failure(tmp_path: Path) -> None:
    result, log, summary = run_workflow(tmp_path, Script(who="old", code=2), NEW)
    assert result == "failure"
    assert "error: what old says" in log
    assert "No such file" not in log
    assert "No report" in summary


def test_missing_report_does_not_fail_a_successful_race(tmp_path: Path) -> None:
    assert run_workflow(tmp_path, Script(who="old"), NEW)[0] == "success"
