"""Builds delivered into a real Docker engine, of which podman's storage sees nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.containerfile.builders import Docker, serve_docker
from tests.e2e.conftest import short_folder
from tests.e2e.tinyproject import Tiny

pytestmark = pytest.mark.tools
APP = "localhost/tiny/app:latest"


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    folder = short_folder()
    try:
        with serve_docker(folder) as served:
            yield served
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def engine(tiny: Tiny, docker: Docker) -> Docker:
    """The engine that the project's builds find."""
    tiny.env["DOCKER_HOST"] = docker.env["DOCKER_HOST"]
    return docker


def own_images(tiny: Tiny) -> str:
    return tiny.tool("podman", "images", "--quiet")


def test_docker_runs_what_was_built_and_a_change_loads_its_layers_only(tiny: Tiny, engine: Docker) -> None:
    before = own_images(tiny)
    built = tiny.build("app", "--to", "docker")
    assert built.report["bytes"]["imported"] > 1_000_000
    assert own_images(tiny) == before, "podman has what steps started from, and nothing else"
    assert engine.run("run", "--rm", "--network=none", APP) == "hello from /app\n"
    (known,) = json.loads(engine.run("image", "inspect", APP))
    assert known["RootFS"]["Layers"] == [layer["diff_id"] for layer in built.report["layers"]]
    again = tiny.build("app", "--to", "docker")
    assert (again.built(), again.report["bytes"]["imported"]) == ({}, 0)
    tiny.write("stages/app/app/main.sh", 'echo "$GREETING again"\n')
    changed = tiny.build("app", "--delivery", "docker")
    assert 0 < changed.report["bytes"]["imported"] < 100_000
    assert engine.run("run", "--rm", "--network=none", APP) == "hello again\n"


def test_setting_delivers_into_docker_and_an_option_does_not(tiny: Tiny, engine: Docker) -> None:
    text = (tiny.project / "pyproject.toml").read_text()
    tiny.write("pyproject.toml", text.replace("[tool.buildkit]", '[tool.buildkit]\nname = "set"\ndelivery = "docker"'))
    tiny.build("app")
    assert "localhost/set/app" in engine.run("image", "ls")
    tiny.build("app", "--delivery", "import")
    assert "localhost/set/app" in tiny.tool("podman", "images")


def test_damaged_layer_is_built_again_and_loaded(tiny: Tiny, engine: Docker) -> None:
    tiny.build("app", "--no-import")
    largest = max(tiny.cache.glob("sha256/*"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 255
    largest.write_bytes(data)
    engine.run("image", "prune", "--all", "--force")
    built = tiny.run("build-app", "--to", "docker")
    assert built.code == 0, built.text
    assert engine.run("run", "--rm", "--network=none", APP) == "hello from /app\n"


def test_engine_that_does_not_answer_is_explained(tiny: Tiny, docker: Docker) -> None:
    tiny.env["DOCKER_HOST"] = f"unix://{tiny.folder}/nobody.sock"
    built = tiny.run("build-app", "--to", "docker")
    assert built.code == 1
    assert "the Docker engine cannot be asked" in built.text
    assert "DOCKER_HOST" in built.text
