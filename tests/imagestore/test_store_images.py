"""Images of a store: their records, names, and what makes a folder unusable as a store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from buildkit.digest import DiffId
from buildkit.errors import BuildError, DamagedError, LostError
from buildkit.imagestore.image_store import ImageStore, is_store
from buildkit.imagestore.layer_chain import chain_ids, link_name, most_layers
from buildkit.imagestore.layer_records import LayerRecords
from tests.imagestore.tars import add_layer, diff_id_of, entry, folder, image_of, make_tar

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
        (lambda folder: (folder.rmdir(), folder.touch()), "store is not a folder"),
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


def test_disk_that_has_other_things_takes_the_store_into_a_folder_of_its_own(tmp_path: Path) -> None:
    """The top of a new ext4 has `lost+found`."""
    disk = tmp_path / "disk"
    (disk / "lost+found").mkdir(parents=True, mode=0o700)
    with pytest.raises(BuildError, match=r"this is no image store: it has lost\+found") as caught:
        ImageStore.open(disk)
    place = caught.value.hint.partition("BUILDKIT_STORE=")[2]
    assert Path(place).parent == disk
    ImageStore.open(Path(place))


@pytest.mark.parametrize("content", [b"new\n", b"", b"\xff\xfe", b"0\n"])
def test_damaged_version_is_mended_by_the_command_that_the_hint_has(store: ImageStore, content: bytes) -> None:
    store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    version = store.folder / "version"
    version.write_bytes(content)
    with pytest.raises(BuildError, match="version is damaged") as caught:
        ImageStore.open(store.folder)
    assert caught.value.hint == f"rm -r {version}; nox -s doctor -- --enable-store"
    version.unlink()
    assert is_store(store.folder), "others find the rest of it"
    assert ImageStore.open(store.folder).find_image("localhost/a:1")


_LOSSES = {
    "trees/{high}": "its tree",
    "trees/{high}.json": "what is known of a tree",
    "trees/{high}.tar-split.gz": "a tar-split file",
    "overlay/{top}": "the folder of a layer",
    "overlay/{top}/diff": "the link to a tree",
    "overlay/{top}/link": "the short name of a layer",
    "overlay/{top}/lower": "the list of lower layers",
    "overlay/l/*": "short names",
    "overlay-layers/layers.json": "the list of layers",
    "overlay-layers/*": "all about layers",
    "overlay-layers/{top}.tar-split.gz": "the link to a tar-split file",
    "overlay-images/images.json": "the list of images",
    "overlay-images/*/manifest": "a manifest",
    "overlay-images/*/=c2*": "a config",
}


@pytest.mark.parametrize("lost", _LOSSES, ids=_LOSSES.values())
def test_loss_of_any_part_is_noticed_and_made_up_for(store: ImageStore, lost: str) -> None:
    image = image_of(_LOW, _HIGH)
    store.put_image(image, ("localhost/a:1",))
    top = chain_ids(map(diff_id_of, (_LOW, _HIGH)))[-1]
    assert store.has_image(image, "localhost/a:1")
    assert not store.has_image(image, "localhost/a:2")
    before = sorted(str(path) for path in store.folder.rglob("*"))
    for path in [*store.folder.glob(lost.format(top=top, high=diff_id_of(_HIGH).hex))]:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    again = ImageStore.open(store.folder)
    assert not again.has_image(image, "localhost/a:1")
    if not again.has_tree(diff_id_of(_HIGH)):
        add_layer(again, _HIGH)
    again.put_image(image, ("localhost/a:1",))
    assert again.has_image(image, "localhost/a:1")
    again.trees.remove_distrusted(again.trees.find_distrusted(), (), replaced=True)
    assert sorted(str(path) for path in store.folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["trees", "tmp", "overlay", "overlay/l", "overlay-layers", "overlay-images"])
def test_folder_that_went_away_is_made_again(store: ImageStore, name: str) -> None:
    shutil.rmtree(store.folder / name)
    again = ImageStore.open(store.folder)
    for tar in (_LOW, _HIGH):
        add_layer(again, tar)
    again.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    assert again.has_image(image_of(_LOW, _HIGH), "localhost/a:1")


_FACTS = (b"garbage", b"", b"[]", b'{"unpacked": "x", "members": 1, "uids": [], "gids": [], "plain": true}',
          b'{"unpacked": 1, "members": 1, "uids": ["x"], "gids": [], "plain": true}', b'{"unpacked": 1')  # fmt: skip


@pytest.mark.parametrize("facts", _FACTS)
def test_layer_of_which_the_facts_are_damaged_is_named(store: ImageStore, facts: bytes) -> None:
    (store.folder / f"trees/{diff_id_of(_HIGH).hex}.json").write_bytes(facts)
    with pytest.raises(DamagedError) as caught:
        store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    assert caught.value.digests == (diff_id_of(_HIGH).hex,)
    assert store.size_of(diff_id_of(_HIGH)) == 0
    assert store.find_alteration(diff_id_of(_HIGH)).endswith("is damaged")


@pytest.mark.parametrize("name", ["overlay-images/images.json", "overlay-layers/layers.json"])
@pytest.mark.parametrize(
    "records", [b"[{", b"{}", b'["x"]', b'[{"id": 3}]', b'[{"id": "3", "diff-digest": "sha256:x"}]']
)
def test_damaged_records_are_mended_by_the_command_that_the_hint_has(
    store: ImageStore, name: str, records: bytes
) -> None:
    image, path = image_of(_LOW, _HIGH), store.folder / name
    store.put_image(image, ("localhost/a:1",))
    path.write_bytes(records)
    with pytest.raises(BuildError, match=f"{name} is damaged") as caught:
        store.put_image(image, ("localhost/a:1",))
    assert caught.value.hint.startswith(f"rm {path} && ")
    path.unlink()
    store.put_image(image, ("localhost/a:1",))
    assert store.has_image(image, "localhost/a:1")


def test_image_with_a_damaged_config_is_named_until_it_is_dropped(store: ImageStore) -> None:
    store.put_image(image_of(_LOW, _HIGH), ("localhost/a:1",))
    (config,) = store.folder.glob("overlay-images/*/=c2*")
    config.write_text("{}")
    with pytest.raises(BuildError, match="localhost/a:1 in the image store is damaged") as caught:
        store.images()
    assert "cache -- verify" in caught.value.hint
    assert store.drop_damaged_images() == ("localhost/a:1",)
    assert store.images() == ()


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


@pytest.mark.parametrize("place", ["", "trees"])
def test_command_that_closes_a_store_to_others_leaves_its_trees_alone(tmp_path: Path, place: str) -> None:
    store = ImageStore.open(tmp_path / "store")
    tree = add_layer(store, make_tar(folder("tmp", mode=0o1777)))
    (store.folder / place).chmod(0o777)
    with pytest.raises(BuildError, match="every user may write to it") as caught:
        ImageStore.open(store.folder)
    command = caught.value.hint.removeprefix("if nobody did: ").partition(";")[0]
    subprocess.run(command, shell=True, check=True)
    assert ImageStore.open(store.folder).find_alteration(tree) == ""
