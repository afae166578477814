"""`ci/refresh` and `ci/fresh`, with a git repository of their own and stand-ins for nox, gh, mmdebstrap and podman."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOX = """\
echo "$*" >>"$CALLS"
[[ $2 == lock-environment ]] && echo 'a==2' >ci/locks/bootstrap.txt
[[ $2 == lock ]] && echo 'b==2' >requirements/api.txt
exit 0
"""


class Project:
    """A checkout and the repository that it is pushed to."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.origin = folder / "project", folder / "bin", folder / "origin.git"
        self.calls = folder / "calls"
        self.calls.touch()
        self.bin.mkdir()
        path = f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin"
        self.env = {"PATH": path, "HOME": str(folder), "CALLS": str(self.calls), "PUSH_URL": str(self.origin)}
        for name in ("ci/locks/bootstrap.txt", "requirements/api.txt", "requirements/api.in"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text("b==1\n")
        for name in ("refresh", "fresh"):
            shutil.copy(ROOT / "ci" / name, self.root / "ci" / name)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", ".")
        self.git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message=first")
        subprocess.run(("git", "clone", "--quiet", "--bare", self.root, self.origin), check=True)
        (self.origin / "hooks/pre-receive").write_text('#!/bin/sh\necho "options: $GIT_PUSH_OPTION_COUNT" >>"$CALLS"\n')
        (self.origin / "hooks/pre-receive").chmod(0o755)
        subprocess.run(("git", "config", "receive.advertisePushOptions", "true"), cwd=self.origin, check=True)
        self.tool("nox", NOX)
        self.tool("gh", 'echo "gh $*" >>"$CALLS"; [[ $2 == list ]] && cat "$HOME/open" 2>/dev/null; exit 0')

    def tool(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/bin/bash\n{body}\n")
        (self.bin / name).chmod(0o755)

    def git(self, *argv: str, cwd: Path | None = None) -> str:
        found = subprocess.run(("git", *argv), cwd=cwd or self.root, check=True, capture_output=True, text=True)
        return found.stdout

    def run(self, script: str, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = (self.root / "ci" / script, *argv)
        return subprocess.run(command, cwd=self.root, env=self.env | env, capture_output=True, text=True)

    def pushed(self) -> str:
        return self.git("diff", "--name-only", "main", "refresh-locks", cwd=self.origin)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_new_locks_are_proposed_by_another_checkout(project: Project) -> None:
    locked = project.run("refresh", "lock")
    assert locked.returncode == 0, locked.stderr
    assert project.calls.read_text() == "-s lock-environment -- --upgrade\n-s lock -- --upgrade\n"
    patch = project.root / "reports/refresh.patch"
    project.git("checkout", "--quiet", ".")
    proposed = project.run("refresh", "propose", str(patch))
    assert proposed.returncode == 0, proposed.stderr
    assert project.pushed() == "ci/locks/bootstrap.txt\nrequirements/api.txt\n"
    assert "gh pr create --head refresh-locks" in project.calls.read_text()


def test_open_proposal_is_renewed_and_not_opened_twice(project: Project) -> None:
    Path(project.env["HOME"], "open").write_text("7\n")
    project.run("refresh", "lock")
    project.git("checkout", "--quiet", ".")
    assert project.run("refresh", "propose", "reports/refresh.patch").returncode == 0
    assert "gh pr create" not in project.calls.read_text()
    assert project.pushed()


def test_gitlab_opens_a_merge_request_by_push_options(project: Project) -> None:
    project.run("refresh", "lock")
    project.git("checkout", "--quiet", ".")
    assert project.run("refresh", "propose", "reports/refresh.patch", GITLAB_CI="true").returncode == 0
    assert "options: 2" in project.calls.read_text()
    assert "gh " not in project.calls.read_text()


def test_unchanged_locks_propose_nothing(project: Project) -> None:
    project.tool("nox", "exit 0")
    project.run("refresh", "lock")
    done = project.run("refresh", "propose", "reports/refresh.patch")
    assert (done.returncode, done.stdout) == (0, "every lock is the newest\n")
    assert project.calls.read_text() == ""


def test_failed_lock_leaves_no_patch(project: Project) -> None:
    project.tool("nox", "exit 3")
    assert project.run("refresh", "lock").returncode == 3
    assert not (project.root / "reports/refresh.patch").exists()


@pytest.mark.parametrize("name", ["ci/refresh", "requirements/api.in", ".github/workflows/x.yml", "requirements/x.sh"])
def test_patch_that_changes_more_than_locks_is_refused(project: Project, name: str) -> None:
    """The job that made it ran programs of others."""
    path = project.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.read_text() + "#\n" if path.exists() else "run: evil\n")
    (project.root / "requirements/api.txt").write_text("b==2\n")
    project.git("add", "--intent-to-add", ".")
    patch = project.root.parent / "refresh.patch"
    patch.write_text(project.git("diff", "--binary"))
    project.git("reset", "--quiet", "--hard")
    if path.exists() and name.startswith((".github", "requirements/x")):
        path.unlink()
    refused = project.run("refresh", "propose", str(patch))
    assert refused.returncode == 1
    assert f"the patch changes {name}, which is not a lock" in refused.stderr
    assert project.git("branch", "--list", "refresh-locks", cwd=project.origin) == ""


@pytest.mark.parametrize("argv", [(), ("what",), ("lock", "x"), ("propose",), ("propose", "missing.patch")])
def test_wrong_usage_exits_with_2(project: Project, argv: tuple[str, ...]) -> None:
    assert project.run("refresh", *argv).returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="ci/fresh runs as root")
def test_fresh_debian_runs_the_command_in_a_clean_copy_of_the_checkout(project: Project) -> None:
    project.tool("mmdebstrap", 'echo "mmdebstrap $*" >>"$CALLS"; mkdir -p "${@: -1}"')
    project.tool("podman", 'echo "podman $*" >>"$CALLS"; ls "${@: -2:1}"/checkout >>"$CALLS"; exit 5')
    (project.root / ".gitignore").write_text("/built\n")
    (project.root / "built").write_text("by the runner\n")
    done = project.run("fresh", "trixie", ".ci/run", FRESH_FOLDER=str(project.root.parent))
    assert done.returncode == 5, done.stderr
    made, ran, *listed = project.calls.read_text().splitlines()
    assert made.startswith("mmdebstrap ")
    assert made.split()[-2] == "trixie"
    assert ran.endswith(f"--workdir=/checkout --rootfs {made.split()[-1]} .ci/run")
    assert {"ci", "requirements"} <= set(listed)
    assert "built" not in listed
    assert not Path(made.split()[-1]).exists(), "nothing is left"
    assert project.run("fresh", "trixie").returncode == 2
