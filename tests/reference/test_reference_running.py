"""The running audit of the shipping images finds only what the host does not support."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.reference.builds import ROOT
from tests.reference.conftest import Project
from tests.reference.engine import Podman

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
