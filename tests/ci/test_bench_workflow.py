"""`bench.yml`, run: a commit that makes every session slower is found by racing it against the one before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.ci.runner import Machine, Run, Workflow
from tests.ci.test_images_workflow import stamp
from tests.e2e.tinyproject import Tiny

pytestmark = pytest.mark.tools

ROOT = Path(__file__).resolve().parents[2]
_STEADY = """

def calibrate(folder: Path, session: Command) -> dict[str, float]:
    return dict.fromkeys((*FIXED, "session"), 1.0)
"""  # a disk that has a bad moment, once, would excuse what is slow
_SLOW = "\nimport time\n\ntime.sleep(3)\n"
_HOOK = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.ci.test_bench_workflow import prepare
prepare(Path.cwd())
"""


def prepare(checkout: Path) -> None:
    """A finished environment of ci/bootstrap, with the packages of this one and the checkout's buildkit."""
    folder = checkout / ".venv"
    if folder.exists():
        return
    venv.create(folder, symlinks=True)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n{checkout}\n")
    (folder / "bin/nox").symlink_to(Path(sys.executable).with_name("nox"))
    stamp(checkout)


@pytest.fixture
def history(tiny: Tiny) -> Path:
    """This repository as it is now, committed a fortnight ago, and a commit on top that makes it slow."""
    tiny.replace("stages/app/stage.toml", 'include = ["deps", "models"]', 'include = ["models"]')
    tiny.git("commit", "--quiet", "--all", "--message=No wheels")
    folder = tiny.folder / "history"
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--", "buildkit", "ci", "noxfile.py", "pyproject.toml", "README.md"),
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".gitignore").write_text(".venv\n.nox\nreports\n__pycache__\n")
    with (folder / "buildkit/bench/calibrate.py").open("a") as file:
        file.write(_STEADY)
    _git(folder, "init", "--quiet", "--initial-branch=main")
    _commit(folder, "14 days ago")
    path = folder / "buildkit/cli/build.py"
    path.write_text(path.read_text() + _SLOW)
    _commit(folder, "now")
    return folder


def _git(folder: Path, *arguments: str, **env: str) -> None:
    who = ("-c", "user.name=N", "-c", "user.email=n@example.org")
    subprocess.run(("git", *who, *arguments), cwd=folder, check=True, env=os.environ | env)


def _commit(folder: Path, when: str) -> None:
    _git(folder, "add", ".")
    printed = subprocess.run(("date", f"--date={when}", "+@%s +0000"), capture_output=True, text=True, check=True)
    date = printed.stdout.strip()
    _git(folder, "commit", "--quiet", f"--message={when}", GIT_COMMITTER_DATE=date, GIT_AUTHOR_DATE=date)


def _run(tiny: Tiny, history: Path) -> Run:
    options = f"--workload {tiny.project} --no-push --scenario nothing --peer --repeat 1"

    def ready(checkout: Path) -> None:
        prepare(checkout)
        hook = checkout / ".git/hooks/post-checkout"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(_HOOK)
        hook.chmod(0o755)

    def machine(permissions: dict[str, str]) -> Machine:
        assert permissions == {"contents": "read"}
        env = {name: value for name, value in tiny.env.items() if name != "PYTHONPATH"}
        return Machine(folder=tiny.folder / "machine", env=env, prepare=ready)

    workflow = Workflow(ROOT / ".github/workflows/bench.yml", env={"BENCH_OPTIONS": options})
    return workflow.run(history, {"event_name": "schedule"}, machine, tiny.folder / "run")


def test_commit_that_slows_sessions_down_fails_the_job(tiny: Tiny, history: Path) -> None:
    run = _run(tiny, history)
    (job,) = run.jobs
    assert job.result == "failure", run.log
    assert "error: nothing changed until runnable: " in run.log, run.log
    assert "bench: racing " in run.log
    assert "14 days ago" in run.log
    assert "| nothing changed |" in job.summary
    (kept,) = job.artifacts.values()
    assert (kept / "bench-before/results.json").exists()
    assert (kept / "bench/results.json").exists()
    left = subprocess.run(("git", "worktree", "list"), cwd=tiny.folder / "machine/work", capture_output=True, text=True)
    assert len(left.stdout.splitlines()) == 1, left.stdout
