"""What the user's own storage hides of the store is uncovered, and keeps the names that the user gave."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buildkit.build.delivery import uncover
from buildkit.imagestore.image_store import ImageStore
from buildkit.oci.image import Image
from buildkit.store.blobs import Blobs
from tests.imagestore.contract import NAME
from tests.imagestore.debian13 import DEBIAN_13, ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.imagestore.tars import add_layer

pytestmark = pytest.mark.tools
MINE, _LOADED = "localhost/mine:1", "localhost/loaded:1"


@pytest.fixture(params=["here", pytest.param("Debian 13", marks=DEBIAN_13)])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageHost]:
    """Storage that this process asks as well, by programs in its PATH."""
    own = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    own.prepare()
    with nullcontext(own) if request.param == "here" else inside(ensure_root(), own) as host:
        programs = own.folder / "programs"
        programs.mkdir()
        for name in ("podman", "buildah", "skopeo"):
            (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join((*host.before, f"/usr/bin/{name}"))} "$@"\n')
            (programs / name).chmod(0o755)
        for name, value in {**host.env, "PATH": f"{programs}:{os.environ['PATH']}"}.items():
            monkeypatch.setenv(name, value)
        yield host
    own.remove()


@pytest.fixture
def deliver(host: StorageHost, tars: tuple[bytes, ...]) -> Callable[[Image], str]:
    """Put an image into the store as a build does it, and return its id."""
    store = ImageStore.open(host.store)
    for tar in tars:
        add_layer(store, tar, foreign_owners=True)
    context: Any = SimpleNamespace(image_store=store, blobs=Blobs(host.folder / "cache"))

    def run(image: Image) -> str:
        found = store.put_image(image, (NAME,))
        uncover(image, NAME, context)
        return found

    return run


def test_image_that_comes_back_keeps_the_name_that_podman_gave_it(
    host: StorageHost, deliver: Callable[[Image], str], image: Image
) -> None:
    first = deliver(image)
    host.tool("podman", "tag", NAME, MINE)
    second = deliver(replace(image, created="2001-01-01T00:00:00Z"))
    assert [_look(host, name)["Id"] for name in (NAME, MINE)] == [second, first]
    deliver(image)
    assert [_look(host, name)["Id"] for name in (NAME, MINE)] == [first, first]
    assert _look(host, NAME)["Healthcheck"]["Test"] == ["CMD", "cat", "/opt/app/text"]
    assert host.run(NAME) == "hello\n"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_image_that_was_saved_and_loaded_keeps_the_names_that_podman_gave_it(
    host: StorageHost, deliver: Callable[[Image], str], image: Image, form: str
) -> None:
    """An archive of OCI has a config of its own, and so is another image."""
    first = deliver(image)
    host.tool("podman", "tag", NAME, MINE)
    host.tool("podman", "save", "--quiet", f"--format={form}", f"--output={host.folder}/saved.tar", NAME)
    host.tool("podman", "load", "--quiet", f"--input={host.folder}/saved.tar")
    loaded = _look(host, NAME)["Id"]
    assert (loaded == first) == (form == "docker-archive")
    host.tool("podman", "tag", NAME, _LOADED)
    for _ in range(2):
        deliver(image)
        assert [_look(host, name)["Id"] for name in (NAME, MINE, _LOADED)] == [first, first, loaded]
        assert _look(host, NAME)["Healthcheck"]["Test"] == ["CMD", "cat", "/opt/app/text"]
    for name in (NAME, MINE, _LOADED):
        assert host.run(name, options=("--pull=never",)) == "hello\n"


def _look(host: StorageHost, name: str) -> dict[str, Any]:
    (found,) = json.loads(host.tool("podman", "image", "inspect", name))
    return dict(found)
