"""The reference's `runtime` as an exported Containerfile, built by buildah: the same files, and the service answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.containerfile.builders import Buildah, config_of
from tests.containerfile.conftest import TOOLS, registry, tools_tar, workshop
from tests.containerfile.noise import find_differences
from tests.containerfile.trees import Entry, read_tree
from tests.e2e.tinyproject import Tiny
from tests.reference.builds import copy_project
from tests.reference.conftest import Project, Speech
from tests.reference.engine import CONFINED, Podman

__all__ = ["registry", "tools_tar", "workshop"]

_ASK = """
import http.client, sys, time
from pathlib import Path

def ask(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=30)
    connection.request(method, path, body, {"Content-Type": "application/octet-stream"} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()

def is_ready():
    try:
        return ask("GET", "/readyz")[0] == 200
    except OSError:
        return False

until = time.monotonic() + 60
while not is_ready() and time.monotonic() < until:
    time.sleep(0.05)
status, body = ask("POST", "/v1/speech", Path(sys.argv[1]).read_bytes())
print(body if status == 200 else {"status": status, "body": body})
"""

pytestmark = [pytest.mark.tools, pytest.mark.network]


@pytest.fixture(scope="module")
def exported(project: Project, workshop: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    """The image of the export; its wheels are those that the project's own cache has."""
    folder = copy_project(tmp_path_factory.mktemp("export"))
    (folder / "wheels").mkdir()
    for wheel in project.cache.glob("files/*/*.whl"):
        shutil.copy(wheel, folder / "wheels")
    argv = (sys.executable, "-m", "nox", "-s", "export-containerfile", "--", "runtime", "--find-links", "wheels")
    env = os.environ | {"BUILDKIT_CACHE": str(project.cache)}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    builder = Buildah(workshop=workshop)
    builder.build(folder, "Podmanfile", "exported/runtime", DEBIAN=TOOLS)
    return builder


def test_exported_image_has_the_same_files_and_config(
    project: Project, podman: Podman, exported: Buildah, tmp_path: Path
) -> None:
    theirs = exported.tree("exported/runtime")
    assert {"app/main.py", "opt/venv/bin/uvicorn", "usr/bin/python3.13"} <= theirs.keys()
    assert find_differences(tree_by(podman, project.images["runtime"], tmp_path), theirs) == {}
    known = podman.inspect(project.images["runtime"])["Config"]
    config = config_of(exported.workshop, "exported/runtime")
    assert config["Cmd"] == known["Cmd"]
    assert config["User"] == known["User"]
    assert config["Env"] == dict(line.split("=", 1) for line in known["Env"])


def test_service_of_the_exported_image_answers(exported: Buildah, speech: Speech) -> None:
    foreign = Podman(env=exported.workshop.env)
    clip = speech.clips[0]
    answer = ask_service(foreign, "localhost/exported/runtime:latest", clip)
    assert [[one["start"], one["end"]] for one in answer["segments"]] == speech.app[clip.name]


def ask_service(podman: Podman, image: str, clip: Path) -> dict[str, Any]:
    """Return the answer of a service without a network to a request from inside its container."""
    mount = ("--volume", f"{clip}:/mnt/{clip.name}:ro")
    box = podman("run", "--detach", *CONFINED, "--network=none", *mount, image).strip()
    try:
        return dict(json.loads(podman("exec", box, "python", "-c", _ASK, f"/mnt/{clip.name}")))
    finally:
        podman("rm", "--force", "--time=5", box)


def tree_by(podman: Podman, image: str, folder: Path) -> dict[str, Entry]:
    """Return the files of an image in the user's storage."""
    box = podman("create", image, "/none").strip()
    try:
        podman("export", "--output", str(folder / "tree.tar"), box)
    finally:
        podman("rm", "--force", box)
    with (folder / "tree.tar").open("rb") as tar:
        return read_tree(tar)
