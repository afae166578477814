"""The image that the tools find under a name: answered by files where only the image store can have it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.build.deliver import Stored, find_stored, find_visible
from buildkit.errors import MissingTool
from buildkit.imagestore.image_store import ImageStore
from buildkit.oci.image import Image
from buildkit.tools import own_storage, skopeo
from tests.imagestore.hosts import StorageHost
from tests.imagestore.tars import add_layer, entry, image_of, make_tar

NAME = "localhost/p/visible:latest"


@pytest.fixture
def host() -> Iterator[StorageHost]:
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    host.prepare()
    yield host
    host.remove()


@pytest.fixture
def store(host: StorageHost) -> ImageStore:
    return ImageStore.open(host.store)


@pytest.fixture
def image(store: ImageStore) -> Image:
    tar = make_tar(entry("file", b"x"))
    add_layer(store, tar, foreign_owners=True)
    image = image_of(tar)
    store.put_image(image, (NAME,))
    return image


@pytest.fixture
def asked(host: StorageHost, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Act as this host's user; return the names that skopeo is asked for, and let it answer."""
    for name, value in host.env.items():
        monkeypatch.setenv(name, value)
    asked: list[str] = []
    really = skopeo.raw_manifest

    def ask(ref: str) -> bytes | None:
        asked.append(ref)
        return really(ref)

    monkeypatch.setattr(skopeo, "raw_manifest", ask)
    return asked


@pytest.mark.tools
def test_skopeo_is_asked_only_where_the_users_own_storage_may_hide_the_image(
    host: StorageHost, store: ImageStore, image: Image, asked: list[str]
) -> None:
    def find() -> tuple[Stored | None, bool]:
        """Return what is found, which is what skopeo finds, and whether it was asked for it."""
        asked.clear()
        found, was_asked = find_visible(NAME, store), bool(asked)
        assert found == find_stored(NAME)
        return found, was_asked

    found, was_asked = find()
    assert (found and found.manifest, was_asked) == (image.docker_manifest(), False)
    host.tool("buildah", "from", "--name", "other", "scratch")
    host.tool("buildah", "commit", "--quiet", "other", "localhost/p/other:latest")
    assert find() == (found, False)
    host.tool("buildah", "tag", "localhost/p/other:latest", NAME)
    theirs, was_asked = find()
    assert theirs != found
    assert was_asked
    host.tool("podman", "untag", NAME, NAME)
    host.tool("buildah", "rm", "other")
    host.tool("podman", "tag", NAME, "localhost/p/third:latest")
    assert find() == (found, True), "a record of the same image"
    store.remove_names((NAME,))
    host.tool("podman", "rmi", "--no-prune", "localhost/p/third:latest")
    assert find()[0] is None


@pytest.mark.tools
def test_skopeo_is_asked_only_for_names_that_local_storage_may_have(
    host: StorageHost, store: ImageStore, image: Image, asked: list[str]
) -> None:
    def find(name: str) -> tuple[bool, bool]:
        """Return whether an image is found, which is what skopeo finds, and whether it was asked for it."""
        really = skopeo.raw_manifest(name)
        asked.clear()
        found, was_asked = find_stored(name), bool(asked)
        assert (found and found.manifest) == really
        return found is not None, was_asked

    other = "localhost/p/other:latest"
    assert find(other) == (False, False)
    assert find(NAME) == (True, True), "that of the image store"
    host.tool("buildah", "from", "--name", "other", "scratch")
    host.tool("buildah", "commit", "--quiet", "other", other)
    assert find(other) == (True, True)
    host.tool("buildah", "rm", "other")
    host.tool("buildah", "rmi", other)
    assert find(other) == (False, False)


@pytest.mark.parametrize("name", ["docker.io/library/x:1", "x:1", f"localhost/p/x@sha256:{'0' * 64}"])
def test_skopeo_is_asked_for_names_that_can_be_written_in_another_way(asked: list[str], name: str) -> None:
    assert find_stored(name) is None
    assert asked == [name]


def test_missing_skopeo_is_reported_although_files_tell_that_the_image_is_not_stored(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingTool, match="skopeo is not installed"):
        find_stored(NAME)


def test_damaged_image_of_the_store_is_left_to_skopeo(
    store: ImageStore, image: Image, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skopeo, "raw_manifest", asked.append)
    for path in (store.folder / "overlay-images").glob("*/=*"):
        path.unlink()
    assert find_visible(NAME, store) is None
    assert asked == [NAME]


def write(host: StorageHost, *, stores: str = "", storage: str = 'driver = "overlay"', more: str = "") -> None:
    named = stores or f'"{host.store}"'
    text = f"[storage]\n{storage}\n{more}\n[storage.options]\nadditionalimagestores = [{named}]\n"
    (host.folder / "storage.conf").write_text(text)


@pytest.mark.parametrize(
    ("settings", "env"),
    [
        ({"storage": ""}, {}),  # the driver is what the tools find
        ({"storage": 'driver = "vfs"'}, {}),
        ({"more": 'graphroot = "$HOME/graph"'}, {}),
        ({"more": "graphroot = 1"}, {}),
        ({"more": 'imagestore = "/images"'}, {}),
        ({"more": 'rootless_storage_path = "/images"'}, {}),
        ({"stores": '"/other", "/store"'}, {}),
        ({"stores": '"/other"'}, {}),
        ({}, {"STORAGE_OPTS": "overlay.mountopt=nodev"}),
        ({}, {"STORAGE_DRIVER": "vfs"}),
        ({"more": 'graphroot = "/proc/self/mem/x"'}, {}),  # cannot be read
    ],
)
def test_whatever_is_unclear_may_hide_an_image(
    host: StorageHost,
    asked: list[str],
    settings: dict[str, str],
    env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = f'graphroot = "{host.folder}/graph"'
    write(host, more=graph)
    assert not own_storage.may_hide([NAME], host.store)
    assert not own_storage.may_have(NAME)
    if "/other" in settings.get("stores", ""):
        monkeypatch.setattr("buildkit.tools.storage_settings.os.path.exists", lambda _path: True)
    write(host, **({"more": graph} | settings))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert own_storage.may_hide([NAME], host.store)
    assert own_storage.may_have(NAME) != ("stores" in settings)  # whichever stores there are, their records tell
    assert asked == []
