"""Real podman, buildah and skopeo use images of the store as if they had imported them."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from buildkit.declare.stage import Config, Healthcheck
from buildkit.imagestore.image_store import ImageStore
from buildkit.oci.image import Image
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.debian13 import ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.imagestore.tars import add_layer, entry, folder, image_of, make_tar
from tests.registry import serve_registry

pytestmark = pytest.mark.tools
MakeHost = Callable[..., AbstractContextManager[StorageHost]]
_NAME = "localhost/app/runtime:latest"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def tars() -> tuple[bytes, ...]:
    """A root, files above it, and whiteouts above these."""
    files = make_tar(
        folder("opt/app"),
        entry("opt/app/text", b"hello\n"),
        entry("opt/app/hard", type=tarfile.LNKTYPE, linkname="opt/app/text"),
        folder("opt/old"),
        entry("opt/old/x", b"1"),
        entry("opt/theirs", b"not root's", uid=1234, gid=1234),
    )
    above = make_tar(entry("usr/bin/.wh.touch"), folder("opt/old"), entry("opt/old/.wh..wh..opq"), entry("opt/old/y"))
    return make_root_tar(), files, above


@pytest.fixture(scope="module")
def image(tars: tuple[bytes, ...]) -> Image:
    health = Healthcheck(test=("cat", "/opt/app/text"), interval=30, timeout=30, retries=3)
    config = Config(env=(("PATH", "/usr/bin"),), cmd=("cat", "/opt/app/text"), healthcheck=health)
    return image_of(*tars, config=config)


@pytest.fixture(
    scope="module",
    params=[
        "here",
        pytest.param(
            "Debian 13",
            marks=[pytest.mark.network, pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts another root")],
        ),
    ],
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
        store.put_image(image, (_NAME,))
        yield host


def test_image_runs_with_its_whiteouts_and_owners(host: StorageHost) -> None:
    assert host.run(_NAME) == "hello\n"
    assert host.run(_NAME, "cat", "/opt/app/hard", options=("--read-only",)) == "hello\n"
    assert host.run(_NAME, "ls", "/opt/old") == "y\n"
    assert "touch" not in host.run(_NAME, "ls", "/usr/bin")
    assert " 1234 1234 " in host.run(_NAME, "ls", "-ln", "/opt/theirs")


def test_image_is_listed_inspected_and_shown_as_one_that_was_imported(host: StorageHost, image: Image) -> None:
    listed = host.tool("podman", "images", "--format", "{{.Repository}}:{{.Tag}} {{.ReadOnly}}")
    assert listed.splitlines() == [f"{_NAME} true"]
    (found,) = json.loads(host.tool("podman", "image", "inspect", _NAME))
    assert found["Id"] == hashlib.sha256(image.config_blob()).hexdigest()
    assert found["RootFS"]["Layers"] == [str(layer.blob.diff_id) for layer in image.layers]
    assert found["Healthcheck"]["Test"] == ["CMD", "cat", "/opt/app/text"]
    assert len(host.tool("podman", "history", "--quiet", _NAME).splitlines()) == 3
    assert host.tool("podman", "image", "tree", _NAME).count("ID: ") == 4


def test_health_check_and_exec_work(host: StorageHost) -> None:
    name = host.tool("podman", "run", "--detach", "--network=none", _NAME, "sleep", "60").strip()
    try:
        host.tool("podman", "healthcheck", "run", name)
        assert host.tool("podman", "exec", name, "cat", "/opt/app/text") == "hello\n"
    finally:
        host.tool("podman", "rm", "--force", "--time=0", name)


def test_saved_and_pushed_layers_have_the_digests_of_an_import(
    host: StorageHost, make_host: MakeHost, tars: tuple[bytes, ...], registry: str
) -> None:
    host.tool("podman", "save", "--quiet", "--format=docker-archive", f"--output={host.folder}/saved.tar", _NAME)
    with tarfile.open(host.folder / "saved.tar") as archive:
        names = {member.name for member in archive if member.isreg()}
    assert names >= {f"{hashlib.sha256(tar).hexdigest()}.tar" for tar in tars}
    with make_host(stores=False) as imported:
        (host.folder / "saved.tar").rename(imported.folder / "saved.tar")
        imported.tool("podman", "load", "--quiet", f"--input={imported.folder}/saved.tar")
        assert imported.run(_NAME, "ls", "/opt/old") == "y\n"
        pushed = {}
        for one in (host, imported):
            options = ("--quiet", "--format=v2s2", f"--digestfile={one.folder}/digest")
            one.tool("podman", "push", *options, _NAME, f"{registry}/one:{one.folder.name}")
            pushed[one.folder.name] = (one.folder / "digest").read_text()
        assert len(set(pushed.values())) == 1


def test_image_of_another_builder_stands_on_it(host: StorageHost) -> None:
    (host.folder / "Containerfile").write_text(f'FROM {_NAME}\nRUN ["bash", "-c", "cat /opt/app/text > /opt/built"]\n')
    host.tool("buildah", "build", "--quiet", "--isolation=chroot", "--layers", "-t", "localhost/built", ".")
    assert host.run("localhost/built", "cat", "/opt/built") == "hello\n"
    host.tool("podman", "rmi", "localhost/built")


def test_buildah_commits_a_container_of_it(host: StorageHost) -> None:
    name = host.tool("buildah", "from", _NAME).strip()
    host.tool("buildah", "run", "--isolation=chroot", name, "bash", "-c", "echo 1 > /opt/stepped")
    committed = host.tool("buildah", "commit", "--quiet", "--timestamp=0", name, "localhost/stepped").strip()
    host.tool("buildah", "rm", name)
    (found,) = json.loads(host.tool("podman", "image", "inspect", committed))
    assert len(found["RootFS"]["Layers"]) == 4
    host.tool("podman", "rmi", committed)


def test_tag_makes_a_record_of_their_own_and_rm_is_refused(host: StorageHost) -> None:
    assert "read-only" in host.tool("podman", "rmi", _NAME, code=125)
    host.tool("podman", "tag", _NAME, "localhost/mine:1")
    assert host.run("localhost/mine:1") == "hello\n"
    host.tool("podman", "rmi", "localhost/mine:1")
    assert host.run(_NAME, options=("--pull=never",)) == "hello\n"
