"""The wheel, installed into an empty environment outside the checkout, builds a foreign project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = [pytest.mark.tools, pytest.mark.network]
_ROOT = Path(__file__).parents[2]
_UV = (sys.executable, "-m", "uv")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel and its dependencies, as locked, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = folder / "venv/bin/python"
    into = (*_UV, "pip", "install", "--python", str(python))
    locked = ("--require-hashes", "--requirements", str(_ROOT / "ci/locks/bootstrap.txt"))
    for argv in (
        (*_UV, "build", "--wheel", "--no-build-isolation", "--out-dir", str(folder / "dist"), str(_ROOT)),
        (*_UV, "venv", "--python", sys.executable, str(folder / "venv")),
        (*into, *locked),
        (*into, "--no-deps", "--no-index", "--find-links", str(folder / "dist"), "xoe-buildkit"),
    ):
        done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return python


def test_foreign_project_is_built_by_the_installed_wheel(installed: Path, tiny: Tiny) -> None:
    tiny.python, tiny.by_nox = str(installed), True
    del tiny.env["PYTHONPATH"]
    where = subprocess.run(
        (installed, "-I", "-c", "import buildkit; print(buildkit.__file__)"), capture_output=True, text=True, check=True
    )
    assert Path(where.stdout).is_relative_to(installed.parents[1]), "not the checkout"
    built = tiny.build("app")
    assert len(built.built()) > 5
    assert "run it: nox -s run-app" in built.text
    assert "GREETING" in tiny.run_image("app", "/bin/sh", "-c", "env; cat /app/main.sh")
    script = installed.with_name("xoe-buildkit")
    again = subprocess.run(
        (script, "build", "app"), cwd=tiny.project / "stages", env=tiny.env, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert "nothing changed" in again.stderr
    watching = subprocess.run(
        (script, "observe", "--print"), cwd=tiny.project, env=tiny.env, capture_output=True, text=True
    )
    assert watching.returncode == 0, watching.stderr
    assert "localhost/xoe-observe/prometheus:latest" in watching.stdout  # of the project that the wheel brings
    [mount] = re.findall(r"--volume=(\S+/prometheus-[0-9a-f]+):/etc/xoe:", watching.stdout)
    assert "alert: TargetDown" in (Path(mount) / "watching.yml").read_text()
