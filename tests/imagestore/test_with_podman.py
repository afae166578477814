"""Root's podman, buildah and skopeo, of this host and of Debian 13, use images of the store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildkit.imagestore.image_store import ImageStore
from buildkit.oci.image import Image
from tests.imagestore.contract import NAME, MakeHost, PodmanContract
from tests.imagestore.debian13 import DEBIAN_13, ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.imagestore.tars import add_layer

pytestmark = pytest.mark.tools


@pytest.fixture(
    scope="module",
    params=["here", pytest.param("Debian 13", marks=DEBIAN_13)],
)
def make_host(request: pytest.FixtureRequest, registry: str) -> MakeHost:
    """Make storage of its own, with the tools of this host, or of Debian 13."""

    @contextmanager
    def make(*, stores: bool) -> Iterator[StorageHost]:
        host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
        host.prepare(registry, stores=stores)
        try:
            if request.param == "here":
                yield host
            else:
                with inside(ensure_root(), host) as debian:
                    yield debian
        finally:
            host.remove()

    return make


@pytest.fixture(scope="module")
def host(make_host: MakeHost, tars: tuple[bytes, ...], image: Image) -> Iterator[StorageHost]:
    with make_host(stores=True) as host:
        store = ImageStore.open(host.store)
        for tar in tars:
            add_layer(store, tar, foreign_owners=True)
        store.put_image(image, (NAME,))
        yield host


class TestPodmanOfRoot(PodmanContract):
    """The contract as root."""
