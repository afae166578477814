"""The running audit of the shipping images finds only what the host does not support."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.reference.builds import ROOT
from tests.reference.conftest import Project
from tests.reference.engine import Podman, Service

pytestmark = [pytest.mark.tools, pytest.mark.network]


@pytest.mark.parametrize("stage", ["hardened", "runtime"])
def test_running_service_has_no_findings(project: Project, podman: Podman, stage: str) -> None:
    look = ROOT / "tests/e2e/acts/look.py"
    env = podman.env | {"BUILDKIT_CACHE": str(project.cache), "PYTHONPATH": str(ROOT)}
    argv = (sys.executable, str(look), str(ROOT), stage)
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    opened = {"way-out"} if "connections to other hosts cannot be refused" in done.stderr else set()
    assert set(json.loads(done.stdout)) == opened


def test_running_service_that_was_not_started_to_be_examined_has_no_findings(project: Project, podman: Podman) -> None:
    name = f"xoe-watched-{os.getpid()}"
    env = podman.env | {"BUILDKIT_CACHE": str(project.cache), "PYTHONPATH": str(ROOT)}

    def run(session: str, *arguments: str) -> str:
        argv = (sys.executable, str(ROOT / "tests/e2e/session.py"), str(ROOT), session, *arguments)
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    try:
        started = run("run-runtime", "--no-build", "--detach", "--port=0", f"--name={name}")
        port = podman("port", name, "8000/tcp").strip().rpartition(":")[2]
        Service(podman=podman, container=name, port=int(port)).wait()
        audit, _ = json.JSONDecoder().raw_decode(run("audit-running", "--json", "--fail-on=never"))
    finally:
        podman("rm", "--force", "--time=0", name)
    opened = {"way-out"} if "connections to other hosts cannot be refused" in started else set()
    assert {one["rule"] for one in audit["findings"] if one["container"] == name} == opened
    assert [one["complete"] for one in audit["containers"] if one["name"] == name] == [True]
