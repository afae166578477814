"""A registry behind a proxy, for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faultyproxy import FaultyProxy
from tests.registry import serve_registry
from tests.registryplace import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("registry")
    with serve_registry(folder) as host, FaultyProxy(host) as proxy:
        yield Place(host, proxy, folder, "ours")
