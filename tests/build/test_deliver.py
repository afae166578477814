"""Importing into local storage: lookups, copied blobs and skipped ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from buildkit.build.deliver import find_stored, import_image
from buildkit.declare.stage import Config
from buildkit.digest import DiffId, Digest
from buildkit.errors import DamagedError, LostError, ToolError
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image, Layer
from buildkit.store.blobs import Blobs
from buildkit.store.layer_bytes import LayerBytes
from buildkit.tools import skopeo

REF = "localhost/p/x:latest"


def image(*names: str) -> Image:
    layers = [
        Blob(
            digest=Digest.of(name.encode()),
            diff_id=DiffId.of(name.encode() * 2),
            size=1,
            unpacked=10**number,
            compression=Compression.ZSTD,
        )
        for number, name in enumerate(names)
    ]
    return Image(layers=tuple(Layer(blob=b, history="h") for b in layers), config=Config(), arch="amd64")


class Storage:
    """A fake of local storage behind skopeo."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.copied: list[tuple[str, dict[str, str]]] = []

    def manifest(self, ref: str) -> bytes | None:
        return self.held.get(ref)

    def copy(self, folder: Path, ref: str) -> None:
        assert (folder / "version").read_text() == "Directory Transport Version: 1.1\n"
        data = (folder / "manifest.json").read_bytes()
        manifest = json.loads(data)
        config = manifest["config"]["digest"].removeprefix("sha256:")
        assert str(Digest.of((folder / config).read_bytes())) == manifest["config"]["digest"]
        rest = {p.name: str(p.readlink()) for p in folder.iterdir() if p.is_symlink()}
        assert {p.name for p in folder.iterdir()} == {"version", "manifest.json", config, *rest}
        self.copied.append((manifest["mediaType"].split(".")[1], rest))
        self.held[ref] = data


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    made = Storage()
    monkeypatch.setattr(skopeo, "raw_manifest", made.manifest)
    monkeypatch.setenv("STORAGE_DRIVER", "overlay")  # so that only skopeo can tell what is stored
    monkeypatch.setattr(skopeo, "copy_dir_to_storage", made.copy)
    return made


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


@pytest.fixture
def deliver(storage: Storage, blobs: Blobs) -> Callable[..., int]:
    def delivered(wanted: Image, *relatives: str) -> int:
        storage.copied.clear()
        return import_image(wanted, REF, LayerBytes(blobs), relatives)

    return delivered


Deliver = Callable[..., int]


def test_new_image_is_imported_by_blobs_then_named_by_a_docker_manifest_with_healthcheck(
    deliver: Deliver, storage: Storage, blobs: Blobs
) -> None:
    wanted = image("a", "b")
    assert deliver(wanted) == 11
    links = {Digest.of(name).hex: str(blobs.path(Digest.of(name))) for name in (b"a", b"b")}
    assert [links_of for _, links_of in storage.copied] == [links, {}]
    assert storage.held[REF] == wanted.docker_manifest()
    assert list((blobs.folder / "tmp").iterdir()) == []


def test_interrupted_import_does_not_move_the_name(
    deliver: Deliver, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = image("a")
    deliver(before)

    def stopped(folder: Path, ref: str) -> None:
        if ref == REF:
            raise KeyboardInterrupt
        storage.copy(folder, ref)

    monkeypatch.setattr(skopeo, "copy_dir_to_storage", stopped)
    with pytest.raises(KeyboardInterrupt):
        deliver(image("a", "b"))
    assert len(storage.copied) == 1
    assert storage.held[REF] == before.docker_manifest()


def test_importing_the_same_image_again_copies_nothing(deliver: Deliver, storage: Storage) -> None:
    deliver(image("a", "b"))
    assert deliver(image("a", "b")) == 0
    assert storage.copied == []


def test_imported_bytes_count_from_the_first_differing_layer(deliver: Deliver) -> None:
    deliver(image("a", "b", "c"))
    assert deliver(image("a", "x", "c")) == 110
    assert deliver(image("a", "x", "c", "d")) == 1000
    assert deliver(image("z", "x", "c", "d")) == 1111


def test_changed_config_alone_imports_no_layer(deliver: Deliver, storage: Storage) -> None:
    wanted = image("a", "b")
    deliver(wanted)
    other = Image(layers=wanted.layers, config=Config(user="u"), arch="amd64")
    assert deliver(other) == 0
    assert [links for _, links in storage.copied] == [{}]
    assert storage.held[REF] == other.docker_manifest()


def test_layers_shared_with_a_relative_do_not_count_as_imported(deliver: Deliver, storage: Storage) -> None:
    storage.held["localhost/p/base:latest"] = image("a", "b").docker_manifest()
    assert deliver(image("a", "b", "c"), "localhost/p/base:latest", "localhost/p/none:latest") == 100


def test_known_stored_image_is_not_looked_up_again(
    deliver: Deliver, storage: Storage, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(image("a", "b"))
    known = find_stored(REF)
    asked: list[str] = []
    monkeypatch.setattr(skopeo, "raw_manifest", asked.append)
    assert import_image(image("a", "c"), REF, LayerBytes(blobs), [REF, "localhost/p/base:latest"], known) == 10
    assert asked == ["localhost/p/base:latest"]


def test_only_docker_manifests_name_layers_by_diff_id(storage: Storage) -> None:
    assert find_stored(REF) is None
    wanted = image("a", "b")
    storage.held[REF] = wanted.docker_manifest()
    found = find_stored(REF)
    assert found is not None
    assert found.diff_ids == tuple(layer.blob.diff_id for layer in wanted.layers)
    for other in (wanted.oci_manifest(), b'{"manifests":[]}', b"{}"):
        storage.held[REF] = other
        found = find_stored(REF)
        assert found is not None
        assert (found.manifest, found.diff_ids) == (other, ())


@pytest.mark.parametrize(("data", "what"), [(None, "gone from the cache"), (b"c", "damaged"), (b"b", "")])
def test_failed_import_reports_damaged_and_missing_blobs(
    deliver: Deliver, blobs: Blobs, monkeypatch: pytest.MonkeyPatch, data: bytes | None, what: str
) -> None:
    def fail(_folder: Path, _ref: str) -> None:
        raise ToolError("storage refused", output="its words")

    monkeypatch.setattr(skopeo, "copy_dir_to_storage", fail)
    blobs.path(Digest.of(b"a")).write_bytes(b"a")
    if data is not None:
        blobs.path(Digest.of(b"b")).write_bytes(data)
    with pytest.raises(LostError if what else ToolError, match=what or "storage refused") as caught:
        deliver(image("a", "b"))
    assert caught.value.output == "its words"
    assert (Digest.of(b"b").short in str(caught.value)) is bool(what)
    assert blobs.path(Digest.of(b"b")).exists() is (data == b"b")


def test_failed_import_of_a_blob_that_another_build_repaired_raises_damaged_error(
    deliver: Deliver, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: Path, _ref: str) -> None:
        raise ToolError("storage refused", output="its words")

    drop, path = blobs.drop_damaged, blobs.path(Digest.of(b"a"))

    def drop_while_another_build_repairs(digests: Iterable[Digest]) -> tuple[Digest, ...]:
        dropped = drop(digests)
        path.write_bytes(b"a")
        return dropped

    monkeypatch.setattr(skopeo, "copy_dir_to_storage", fail)
    monkeypatch.setattr(blobs, "drop_damaged", drop_while_another_build_repairs)
    path.write_bytes(b"c")
    with pytest.raises(DamagedError, match="damaged"):
        deliver(image("a"))
