"""A registry behind a proxy, for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.tools.registry import CLIENT
from tests.faultyproxy import FaultyProxy
from tests.registry import serve_registry
from tests.registryplace import Place, insecure


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("registry")
    with serve_registry(folder) as host, FaultyProxy(host) as proxy:
        yield Place(host, proxy, folder, "ours")


@pytest.fixture
def home(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which that registry needs no TLS."""
    (tmp_path / "home/.config/containers").mkdir(parents=True)
    insecure(tmp_path, place.proxy.host)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in (CLIENT, "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    place.proxy.clear()
    return tmp_path
