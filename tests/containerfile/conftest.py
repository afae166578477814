"""The supported builders, each with its own storage, and an image of tools that replaces a registry's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containerfile.builders import Buildah, Builder, Docker, serve_docker
from tests.e2e.conftest import links, registry, short_folder, template
from tests.e2e.tinyproject import Tiny
from tests.once import make_kept

__all__ = ["links", "registry", "template"]

TOOLS = "localhost/tools:latest"


@pytest.fixture(scope="session")
def tools_tar() -> Path:
    """Debian as a registry's image has it, with the tools that an export installs, so that each build need not.

    It is kept: making it takes forty seconds of CPU.
    """

    def make(tar: Path) -> None:
        argv = ("mmdebstrap", "--quiet", "--variant=minbase", "--include=mmdebstrap,python3-venv", "trixie", str(tar))
        subprocess.run(argv, check=True, capture_output=True)

    return make_kept("tools.tar", make)


@pytest.fixture(scope="session")
def workshop(registry: str, tools_tar: Path) -> Iterator[Tiny]:
    """Storage in which buildah and podman build exports, without images of the project."""
    tiny = Tiny(short_folder(), registry=registry)
    box = tiny.tool("buildah", "from", "scratch").strip()
    tiny.tool("buildah", "add", "--quiet", box, str(tools_tar), "/")
    tiny.tool("buildah", "commit", "--quiet", "--rm", box, TOOLS)
    yield tiny
    tiny.remove()


@pytest.fixture(scope="session")
def docker(tools_tar: Path) -> Iterator[Docker]:
    """A daemon of docker with BuildKit, where this host can run one."""
    if missing := [name for name in ("dockerd", "containerd") if shutil.which(name) is None]:
        pytest.skip(f"no {' and no '.join(missing)} here: apt-get install docker.io")
    folder = short_folder()
    try:
        with serve_docker(folder) as served:
            served.run("import", str(tools_tar), TOOLS)
            yield served
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["buildah", "podman", "docker"])
def builder(request: pytest.FixtureRequest) -> Builder:
    """Each of the builders."""
    if request.param == "docker":
        served: Docker = request.getfixturevalue("docker")
        return served
    return Buildah(workshop=request.getfixturevalue("workshop"), program=request.param)
