"""Copies of a tiny project, built by real sessions with real tools, and removed afterwards."""

from __future__ import annotations

import random
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.tinyproject import Tiny
from tests.e2e.tinyroot import push_root
from tests.layers.wheelmaker import make_wheel
from tests.registry import serve_registry

_TINY = Path(__file__).parent / "tiny"
_VERSIONS = (("alpha", "1.0"), ("alpha", "1.1"), ("beta", "1.0"), ("gamma", "1.0"))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host of a real registry on loopback."""
    with serve_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="session")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels that replaces an index."""
    folder = tmp_path_factory.mktemp("links")
    for name, version in _VERSIONS:
        add_wheel(folder, name, version)
    add_wheel(folder, "bulk", "1.0", {"bulk/data.bin": random.Random(1).randbytes(100_000)})  # heavy
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, registry: str, links: Path) -> Path:
    """The tiny project with its root pinned, locked by the real session, and committed."""
    tiny = Tiny(tmp_path_factory.mktemp("template"), registry=registry, links=links)
    tiny.adopt(_TINY)
    image = push_root(registry, tmp_path_factory.mktemp("root"), tiny.env)
    stage = tiny.project / "stages/base/stage.toml"
    stage.write_text(re.sub(r'image = ".*"', f'image = "{image}"', stage.read_text()))
    tiny.lock()
    tiny.git("init", "--quiet", "--initial-branch=main")
    tiny.git("add", ".")
    tiny.git("commit", "--quiet", "--message=Everything")
    return tiny.project


@pytest.fixture(scope="module")
def imports() -> Iterator[None]:
    """Projects whose images are imported, also where `BUILDKIT_DELIVERY` asks the suite for the image store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BUILDKIT_DELIVERY", raising=False)
        yield


@pytest.fixture
def make_tiny(template: Path, registry: str, links: Path) -> Iterator[Callable[[], Tiny]]:
    """Make independent projects."""
    projects: list[Tiny] = []

    def make() -> Tiny:
        projects.append(new_tiny(template, registry, links))
        return projects[-1]

    yield make
    for tiny in projects:
        tiny.remove()


@pytest.fixture
def tiny(make_tiny: Callable[[], Tiny]) -> Tiny:
    """A tiny project, locked and committed, not built yet."""
    return make_tiny()


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """A server on the host's loopback: its port, and the addresses of its clients."""
    callers: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    connection, caller = server.accept()
                except OSError:
                    return
                callers.append(caller)
                connection.close()

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1], callers
        server.shutdown(socket.SHUT_RDWR)


def new_tiny(template: Path, registry: str, links: Path) -> Tiny:
    """Make an independent project; the caller removes it."""
    folder = short_folder()
    own = folder / "links"
    shutil.copytree(links, own)
    tiny = Tiny(folder, registry=registry, links=own)
    tiny.adopt(template)
    return tiny


def short_folder() -> Path:
    """Make an empty folder with a short path: podman waits 20 s for sockets whose paths are too long."""
    return Path(tempfile.mkdtemp(prefix="bk-"))


def add_wheel(folder: Path, name: str, version: str, files: dict[str, bytes] | None = None) -> Path:
    """Write a wheel with one module, or with ``files``."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n"
    content = files or {f"{name}/__init__.py": f'VERSION = "{version}"\n'.encode()}
    return make_wheel(folder, content, name=name, version=version, METADATA=metadata)
