"""Two versions of podman, each with storage of its own, over one image store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.imagestore.image_store import ImageStore
from buildkit.oci.image import Image
from tests.imagestore.contract import NAME
from tests.imagestore.debian13 import DEBIAN_13, ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.imagestore.tars import add_layer

pytestmark = [pytest.mark.tools, *DEBIAN_13]
NEXT = "localhost/app/next:latest"


@pytest.fixture
def hosts(registry: str) -> Iterator[tuple[StorageHost, StorageHost]]:
    """Yield podman of this host and of Debian 13."""
    here = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    here.prepare(registry)
    own = here.folder / "13.conf"
    own.write_text((here.folder / "storage.conf").read_text().replace("/graph", "/graph13").replace("/run", "/run13"))
    try:
        with inside(ensure_root(), replace(here, env=dict(here.env))) as there:
            there.env["CONTAINERS_STORAGE_CONF"] = str(own)
            yield here, there
    finally:
        here.remove()


def test_two_versions_run_images_at_once_while_another_is_put_into_the_store(
    hosts: tuple[StorageHost, StorageHost], tars: tuple[bytes, ...], image: Image
) -> None:
    here, there = hosts
    assert here.tool("podman", "--version") != there.tool("podman", "--version")
    store = ImageStore.open(here.store)
    for tar in tars:
        add_layer(store, tar, foreign_owners=True)
    store.put_image(image, (NAME,))
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(host.run, NAME) for _ in range(2) for host in hosts]
        store.put_image(image, (NAME, NEXT))
        assert [run.result() for run in runs] == ["hello\n"] * 4
    files = _files(here.store)
    for host in hosts:
        assert host.run(NEXT) == "hello\n"
        host.tool("podman", "tag", NEXT, "localhost/mine:1")
    assert _files(here.store) == files, "podman wrote into the store"


def _files(folder: Path) -> list[tuple[str, int]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [(str(path), path.stat().st_mtime_ns) for path in paths]
