"""Images of a store: their records, names, and what makes a folder unusable as a store."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from buildkit.digest import DiffId
from buildkit.errors import BuildError, LostError
from buildkit.imagestore.image_store import ImageStore
from buildkit.imagestore.layer_chain import chain_ids, link_name, most_layers
from buildkit.imagestore.layer_records import LayerRecords
from tests.imagestore.tars import add_layer, diff_id_of, entry, image_of, make_tar

_LOW, _HIGH, _OTHER = (make_tar(entry(name, name.encode())) for name in ("low", "high", "other"))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    store = ImageStore.open(tmp_path / "store")
    for tar in (_LOW, _HIGH, _OTHER):
        add_layer(store, tar)
    return store


def test_chain_ids_are_those_of_local_storage() -> None:
    low, high = "2ee5bcb3b9642db987395554500a98c5a62c3a5428db9e093535512ffe0259df", (
        "ed9946b93b297aad1edabc299a5e591adb8a9746dcfec4121629196c9ab050e9"
    )  # fmt: skip
    top = "94e99b10306500a528cec0d46701327dab85ba43707d61c6e7faa68e151d36ee"  # skopeo 1.9.3 made that of these two
    assert chain_ids(map(DiffId, (low, high))) == (low, top)
    assert link_name(top, 8) == "STUZWEBQ"


def test_image_has_manifest_config_layers_and_names(store: ImageStore) -> None:
    image = image_of(_LOW, _HIGH)
    found_id = store.put_image(image, ("localhost/a:1", "localhost/a:2"))
    found = store.find_image("localhost/a:2")
    assert found is not None
    assert found == store.find_image(found_id)
    assert (found.id, found.names, found.manifest) == (
        found_id,
        ("localhost/a:1", "localhost/a:2"),
        image.docker_manifest(),
    )
    assert found.diff_ids == tuple(layer.blob.diff_id for layer in image.layers)
    assert store.find_image("localhost/b:1") is None


def test_same_image_again_writes_nothing(store: ImageStore) -> None:
    def stamps() -> dict[str, int]:
        return {str(path): path.lstat().st_mtime_ns for path in store.folder.rglob("*")}

    store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    before = stamps()
    store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    assert stamps() == before


def test_names_move_and_the_old_image_stays_without(store: ImageStore) -> None:
    old = store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1", "localhost/a:2"))
    new = store.put_image(image_of(_LOW, _OTHER), ("localhost/a:1",))
    assert {image.id: image.names for image in store.images()} == {old: ("localhost/a:2",), new: ("localhost/a:1",)}
    store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    assert {image.id: image.names for image in store.images()} == {old: ("localhost/a:2", "localhost/a:1"), new: ()}


def test_layers_share_one_tree_in_every_chain(store: ImageStore) -> None:
    store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    store.put_image(image_of(_OTHER, _HIGH), ("localhost/b:1",))
    records = json.loads((store.folder / "overlay-layers/layers.json").read_bytes())
    assert len(records) == 4
    links = {(store.folder / "overlay" / record["id"] / "diff").resolve() for record in records}
    assert len(links) == 3


def test_image_without_its_trees_is_refused(store: ImageStore) -> None:
    store.trees.remove([diff_id_of(_HIGH)])
    with pytest.raises(LostError, match="has no layer"):
        store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    assert store.images() == ()


def test_many_threads_add_images_at_once(store: ImageStore) -> None:
    tars = [make_tar(entry(f"f{number}", b"x")) for number in range(8)]
    images = [image_of(_LOW, tar, _HIGH) for tar in tars]
    for tar in tars:
        add_layer(store, tar)
    threads = [
        threading.Thread(target=store.put_image, args=(image, (f"localhost/a:{number}", "localhost/a:latest")))
        for number, image in enumerate(images)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name for image in store.images() for name in image.names} == {
        *(f"localhost/a:{number}" for number in range(8)), "localhost/a:latest",
    }  # fmt: skip
    assert sum("localhost/a:latest" in image.names for image in store.images()) == 1
    assert len(json.loads((store.folder / "overlay-layers/layers.json").read_bytes())) == 17


def test_most_layers_depends_on_the_length_of_the_path() -> None:
    assert most_layers(Path("/home/somebody/.local/share/xoe-buildkit/store")) == 56
    assert most_layers(Path("/s")) > 100


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda folder: (folder / "version").write_text("2\n"), "is of version 2, and this buildkit knows version 1"),
        (lambda folder: (folder / "version").write_text("new\n"), "is not a version"),
        (lambda folder: (folder / "holiday.jpg").touch(), "this is no image store: it has holiday.jpg"),
        (lambda folder: folder.chmod(0o777), "every user may write to it"),
    ],
)
def test_unusable_folders_are_refused_with_a_hint(tmp_path: Path, prepare: object, why: str) -> None:
    folder = tmp_path / "store"
    folder.mkdir(0o700)
    prepare(folder)  # type: ignore[operator]
    with pytest.raises(BuildError, match=why) as caught:
        ImageStore.open(folder)
    assert "BUILDKIT_STORE=/path" in caught.value.hint


def test_store_is_made_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = ImageStore.open(tmp_path / "above/store").folder
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir() if path.is_dir()} == dict.fromkeys(
        ("overlay", "overlay-images", "overlay-layers", "tmp", "trees"), 0
    )


def test_removing_takes_images_chains_and_trees_that_nobody_uses(store: ImageStore) -> None:
    old = store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    new = store.put_image(image_of(_LOW, _OTHER), ("localhost/a:1",))
    trees = tuple(map(diff_id_of, (_LOW, _HIGH, _OTHER)))
    assert store.remove([old], trees, used=()) == (diff_id_of(_HIGH),)
    assert [image.id for image in store.images()] == [new]
    assert len(store.layers()) == len(list((store.folder / "overlay/l").iterdir())) == 2
    assert len(list((store.folder / "overlay").iterdir())) == 3
    assert [store.has_tree(tree) for tree in trees] == [True, False, True]


def test_layers_under_a_container_or_a_foreign_image_stay(store: ImageStore) -> None:
    found = store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    top = chain_ids(map(diff_id_of, (_LOW, _HIGH)))[-1]
    trees = tuple(map(diff_id_of, (_LOW, _HIGH, _OTHER)))
    assert store.remove([found], trees, used=(top, "not ours")) == (diff_id_of(_OTHER),)
    assert store.images() == ()
    assert len(store.layers()) == 2
    store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    assert store.find_image("localhost/a:1")


def test_image_that_comes_while_damaged_ones_are_looked_for_stays(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole_before_another_comes(records: LayerRecords, whole=LayerRecords.whole) -> set[str]:  # type: ignore[no-untyped-def]
        found: set[str] = whole(records)
        store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
        return found

    monkeypatch.setattr(LayerRecords, "whole", whole_before_another_comes)
    assert store.drop_damaged_images() == ()
    assert [image.names for image in store.images()] == [("localhost/a:1",)]
