"""Fixtures of tests that start buildah and skopeo."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buildkit.tools import buildah
from buildkit.tools.buildah import remove_image
from buildkit.tools.isolation import Isolation


@pytest.fixture
def refs() -> Iterator[list[str]]:
    """Names of images to remove at the end."""
    made: list[str] = []
    yield made
    for ref in reversed(made):
        remove_image(ref)


@pytest.fixture(params=["oci", "chroot"])
def isolation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Isolation]:
    """Each way in which buildah can run commands here."""
    buildah.find_isolation.cache_clear()
    monkeypatch.delenv("BUILDAH_ISOLATION", raising=False)
    if request.param == "oci" and buildah.find_isolation().kind != "oci":
        pytest.skip("no OCI runtime works on this host")
    buildah.find_isolation.cache_clear()
    monkeypatch.setenv("BUILDAH_ISOLATION", request.param)
    yield buildah.find_isolation()
    buildah.find_isolation.cache_clear()
