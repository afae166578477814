"""`ci/image test`, as CI jobs run it: the production image starts, gets healthy, and answers a request."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reference.builds import copy_project
from tests.reference.conftest import Project
from tests.reference.engine import Podman

pytestmark = [pytest.mark.tools, pytest.mark.network]


def test_image_script_starts_the_image_and_requests_its_endpoint(
    project: Project, podman: Podman, tmp_path: Path
) -> None:
    folder = copy_project(tmp_path / "checkout")
    env = podman.env | {
        "BUILDKIT_CACHE": str(project.cache),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REGISTRY": "127.0.0.1:1",  # nobody is there, and nobody need be: all layers are here
        "REPOSITORY": "xoe/images",
        "RUN_OPTIONS": "--env=SPEECH_LOG_LEVEL=debug --label ci=yes",
    }

    def ask(path: str) -> subprocess.CompletedProcess[str]:
        argv = (folder / "ci/image", "test", "runtime")
        return subprocess.run(argv, cwd=folder, env=env | {"PROBE": path}, capture_output=True, text=True, timeout=120)

    done = ask("/readyz")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "localhost/xoe/runtime:latest is healthy" in done.stderr
    assert "/readyz answers" in done.stderr
    assert (folder / "reports/test-runtime.json").is_file()
    wrong = ask("/nothing")
    assert wrong.returncode == 1
    assert "/nothing does not answer" in wrong.stderr
    assert "GET /nothing" in wrong.stderr, "the container's log is shown"
    assert podman("container", "ls", "--all", "--quiet", "--filter", "name=image-test-") == ""
