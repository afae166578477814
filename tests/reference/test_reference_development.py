"""The development session with the real service: saves, mistakes, the debugger and tests, in one run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from buildkit.bench.dev_samples import attach_debugger
from tests.e2e.test_audit_running_session import HOSTS_OWN
from tests.e2e.tinyproject import read_event
from tests.reference.builds import ROOT
from tests.reference.conftest import Project
from tests.reference.engine import Podman, serving

pytestmark = [pytest.mark.tools, pytest.mark.network]
API = "stages/runtime/app/api.py"
HINT = "see /openapi.json for the routes"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the files of this one, to edit."""
    folder = tmp_path / "checkout"
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for command in ("init --quiet", "add --all", "-c user.name=t -c user.email=t@localhost commit --quiet -m all"):
        subprocess.run(("git", *command.split()), cwd=folder, check=True)
    return folder


class Session:
    """A running development session of a checkout."""

    def __init__(self, checkout: Path, env: dict[str, str], child: subprocess.Popen[str]) -> None:
        self.checkout = checkout
        self.env = env
        self.child = child

    def next(self, event: str) -> dict[str, Any]:
        return read_event(self.child, event)

    def save(self, old: str, new: str) -> None:
        path = self.checkout / API
        text = path.read_text()
        assert old in text
        path.with_suffix(".new").write_text(text.replace(old, new))
        path.with_suffix(".new").replace(path)

    def use(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("dev", *arguments)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = (sys.executable, "-m", "buildkit", *words)
        return subprocess.run(argv, cwd=self.checkout, env=self.env, capture_output=True, text=True, timeout=120)


def ask() -> str:
    """Return the hint of the service about an address that it does not have."""
    try:
        urllib.request.urlopen("http://127.0.0.1:8000/nowhere", timeout=60)
    except urllib.error.HTTPError as error:
        hint: str = json.loads(error.read())["hint"]
        return hint
    raise AssertionError


@contextmanager
def developing(checkout: Path, env: dict[str, str]) -> Iterator[Session]:
    """Run the session until the block ends, by Ctrl-C."""
    argv = (sys.executable, "-m", "buildkit", "dev", "--json", "--stage", "development", "--write-launch", "--jupyter")
    with (
        (checkout.parent / "errors").open("w+") as errors,
        subprocess.Popen(
            argv, cwd=checkout, env=env, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as child,
    ):
        try:
            yield Session(checkout, env, child)
        finally:
            os.killpg(child.pid, signal.SIGINT)
            child.communicate(timeout=60)
        errors.seek(0)
        assert child.returncode == 0, errors.read()


def work_in_a_notebook(checkout: Path, said: str, podman: Podman) -> None:
    """Write a notebook by Jupyter's interface and run it: its kernel has the application, the developer the file."""
    (token,) = re.findall(r"http://127\.0\.0\.1:8888/lab\?token=([\w-]+)", said)
    cell = {"cell_type": "code", "source": "import settings; print(settings.__file__)", "outputs": []}
    notebook = {"cells": [cell | {"metadata": {}, "execution_count": None}], "metadata": {}, "nbformat": 4}
    content = {"type": "notebook", "content": notebook | {"nbformat_minor": 4}}

    def put(**headers: str) -> int:
        address, body = "http://127.0.0.1:8888/api/contents/first.ipynb", json.dumps(content).encode()
        request = urllib.request.Request(address, method="PUT", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert (put(), put(Authorization=f"token {token}")) == (403, 201)
    run = "python -m jupyter execute --kernel_name=python3 --inplace /notebooks/first.ipynb"
    podman("exec", "xoe-dev-jupyter", *run.split())
    path = checkout / "notebooks/first.ipynb"
    assert "/app/settings.py" in path.read_text()
    assert path.stat().st_uid == checkout.stat().st_uid


def test_service_follows_saves_and_keeps_answering_through_mistakes(
    project: Project, podman: Podman, checkout: Path
) -> None:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = podman.env | {"BUILDKIT_CACHE": str(project.cache), "PYTHONPATH": path}
    with developing(checkout, env) as session:
        service, jupyter = session.next("service"), session.next("service")
        assert (service["address"], service["state"]) == ("http://127.0.0.1:8000", "healthy")
        session.next("watching")
        assert ask() == HINT
        (launch,) = json.loads((checkout / ".vscode/launch.json").read_text())["configurations"]
        assert attach_debugger(launch["connect"]["port"]) > 0

        work_in_a_notebook(checkout, str(jupyter), podman)
        findings = json.loads(session.run("audit-running", "--json").stdout)["findings"]
        ours = [one for one in findings if one["container"].startswith("xoe-dev-")]  # other tests have containers, too
        assert [one for one in ours if one["rule"] not in HOSTS_OWN] == [], "as the session starts it"

        began = podman("inspect", "--format", "{{.State.StartedAt}}", "xoe-dev-jupyter")
        session.save(HINT, "the second edition")
        said = session.next("reacted")
        assert (said["action"], said["files"], said["ok"]) == ("reloaded", [API], True), said
        assert ask() == "the second edition"

        session.save("the second edition", 'a mistake"(')
        said = session.next("reacted")
        assert (said["ok"], "still answers" in said["text"]) == (False, True), said
        assert "SyntaxError" in said["output"]
        assert ask() == "the second edition", "the old code goes on"
        session.save('a mistake"(', "the third edition")
        assert session.next("reacted")["ok"]
        assert ask() == "the third edition"

        tested = session.use("--test", "-q", "tests/test_settings.py")
        assert tested.returncode == 0, tested.stdout + tested.stderr
        assert " passed" in tested.stdout

        assert podman("inspect", "--format", "{{.State.StartedAt}}", "xoe-dev-jupyter") == began, "its kernels go on"
        podman("rm", "--force", "--time=0", "xoe-dev-jupyter")  # of the same image: one is compared
        with serving(podman, project.images["runtime"]):
            compared = session.run("parity", "development", "runtime", "--running", "--json")
        assert compared.stdout, compared.stderr
        found = {(one["what"], one["name"]): one for one in json.loads(compared.stdout)["differences"]}
        assert found["package", "debugpy"]["allowed"]
        assert [name for what, name in found if what == "package" and not found[what, name]["allowed"]] == []
    assert "xoe-dev-app" not in podman("ps", "--all", "--format", "{{.Names}}")
