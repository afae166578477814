"""A machine that pushes to a registry behind a proxy that counts requests and injects faults, one for each module."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit.tools.registry import CLIENT
from tests.e2e.conftest import new_tiny
from tests.e2e.machines import trust
from tests.e2e.tinyproject import Tiny
from tests.faultyproxy import FaultyProxy
from tests.registry import serve_registry


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyProxy]:
    """A proxy in front of an empty registry."""
    with serve_registry(tmp_path_factory.mktemp("pushed")) as host, FaultyProxy(host) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def machine(template: Path, registry: str, links: Path, proxy: FaultyProxy) -> Iterator[Tiny]:
    """One machine for all tests, so that each test uses the layers that earlier ones built."""
    tiny = new_tiny(template, registry, links)
    trust(tiny, registry, proxy.host)
    yield tiny
    tiny.remove()


@pytest.fixture
def tiny(machine: Tiny, proxy: FaultyProxy) -> Iterator[Tiny]:
    """That machine, with the project as it was committed."""
    machine.git("checkout", "--quiet", ".")
    machine.git("clean", "--quiet", "-fd")
    proxy.clear()
    yield machine
    assert machine.left_over() == []


@pytest.fixture(params=["ours", "skopeo"])
def sends(request: pytest.FixtureRequest, machine: Tiny, tiny: Tiny) -> Iterator[str]:
    """Both clients of registries in turn: the method with which it sends a blob's bytes."""
    machine.env[CLIENT] = request.param
    yield {"ours": "PUT", "skopeo": "PATCH"}[request.param]
    del machine.env[CLIENT]


@pytest.fixture
def other(make_tiny: Callable[[], Tiny], registry: str, proxy: FaultyProxy) -> Tiny:
    """Another machine."""
    tiny = make_tiny()
    trust(tiny, registry, proxy.host)
    return tiny


@pytest.fixture
def repo(proxy: FaultyProxy, request: pytest.FixtureRequest) -> str:
    """A repository of the test's own."""
    return f"{proxy.host}/{re.sub('[^a-z0-9]+', '-', request.node.name.lower()).strip('-')}"
