"""The image store under gc, rm, verify and du: only what nobody needs is removed. Real podman says who needs what."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit.cache_admin.remove_images import complete_name
from buildkit.imagestore.image_store import ImageStore
from buildkit.imagestore.store_use import StoreUse, ask_store_use
from tests.cache_admin.stocked import Stocked
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost
from tests.imagestore.tars import add_layer, diff_id_of, entry, image_of, make_tar

pytestmark = pytest.mark.tools
Ask = Callable[..., Any]
_ROOT = make_root_tar()
_OLD, _NEW = (make_tar(entry("opt/app", text)) for text in (b"old\n", b"new\n"))
_NAME = "localhost/made-up/app:latest"


@pytest.fixture
def host(stocked: Stocked, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageHost]:
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    monkeypatch.setenv("PATH", os.defpath + ":/usr/sbin:/sbin")
    host.prepare()
    for name in ("CONTAINERS_STORAGE_CONF", "CONTAINERS_CONF", "HOME", "XDG_RUNTIME_DIR"):
        if name in host.env:
            monkeypatch.setenv(name, host.env[name])
    monkeypatch.setenv("BUILDKIT_STORE", str(host.store))
    yield host
    host.remove()


@pytest.fixture
def store(host: StorageHost) -> ImageStore:
    """An old image without a name, and a new one that has it; their trees were written long ago."""
    store = ImageStore.open(host.store)
    for tar in (_ROOT, _OLD, _NEW):
        add_layer(store, tar)
        os.utime(store.trees.folder / f"{diff_id_of(tar).hex}.json", (time.time() - 100 * 86400,) * 2)
    store.put_image(image_of(_ROOT, _OLD), (_NAME,))
    return store


def replace_image(store: ImageStore) -> None:
    store.put_image(image_of(_ROOT, _NEW), (_NAME,))


def left(store: ImageStore) -> list[bool]:
    return [store.has_tree(diff_id_of(tar)) for tar in (_ROOT, _OLD, _NEW)]


def test_gc_removes_nameless_images_and_their_trees_alone(host: StorageHost, store: ImageStore, ask: Ask) -> None:
    replace_image(store)
    assert left(store) == [True, True, True]
    answer = ask("gc", "--dry-run")
    assert ([image["names"] for image in answer["images"]], left(store)) == ([[]], [True] * 3)
    answer = ask("gc")
    assert [item["name"] for item in answer["dropped"]] == [diff_id_of(_OLD).short]
    assert left(store) == [True, False, True]
    assert [image.names for image in store.images()] == [(_NAME,)]
    assert len(store.layers()) == 2
    assert host.run(_NAME, "cat", "/opt/app") == "new\n"
    assert ask("gc")["dropped"] == []


def test_young_trees_without_an_image_stay_as_any_young_layer(store: ImageStore, ask: Ask) -> None:
    tar = make_tar(entry("young"))
    add_layer(store, tar)
    ask("gc")
    assert store.has_tree(diff_id_of(tar))
    ask("gc", "--keep-days", "0")
    assert not store.has_tree(diff_id_of(tar))


def test_image_that_is_tagged_while_garbage_is_collected_stays(
    host: StorageHost, store: ImageStore, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_and_tag() -> StoreUse:
        use = ask_store_use()
        host.tool("podman", "tag", image, "localhost/mine:1")
        return use

    (image,) = (image.id for image in store.images())
    replace_image(store)
    monkeypatch.setattr("buildkit.cache_admin.store_garbage.ask_store_use", ask_and_tag)
    ask("gc", "--keep-days", "0")
    assert host.run("localhost/mine:1", "cat", "/opt/app") == "old\n"


@pytest.mark.parametrize("user", ["a container that never ran", "a name of podman's", "an image built on it"])
def test_gc_keeps_what_others_stand_on(host: StorageHost, store: ImageStore, ask: Ask, user: str) -> None:
    if user.startswith("a container"):
        name = host.tool("podman", "create", "--network=none", _NAME, "cat", "/opt/app").strip()
    elif user.startswith("a name"):
        host.tool("podman", "tag", _NAME, "localhost/mine:1")
    else:
        (host.folder / "Containerfile").write_text(f'FROM {_NAME}\nRUN ["bash", "-c", "cat /opt/app > /opt/two"]\n')
        host.tool("buildah", "build", "--quiet", "--isolation=chroot", "-t", "localhost/mine:1", ".")
    replace_image(store)
    ask("gc", "--keep-days", "0")
    assert left(store) == [True, True, True]
    if user.startswith("a container"):
        assert host.tool("podman", "start", "--attach", name) == "old\n"
        host.tool("podman", "rm", name)
    else:
        assert host.run("localhost/mine:1", "cat", "/opt/app") == "old\n"
        host.tool("podman", "rmi", "--no-prune", *own_names(host))  # ours below is read-only for podman
    ask("gc", "--keep-days", "0")
    assert left(store) == [True, False, True]


def test_container_that_runs_keeps_its_files_while_a_layer_is_replaced(
    host: StorageHost, store: ImageStore, ask: Ask
) -> None:
    name = host.tool("podman", "run", "--detach", "--network=none", _NAME, "sleep", "60").strip()
    (store.trees.path(diff_id_of(_OLD)) / "opt/app").chmod(0o666)
    store.trees.distrust(diff_id_of(_OLD))
    for container in (True, False):
        add_layer(store, _OLD)
        ask("gc", "--keep-days", "0")
        kept = {path.name.partition(".")[0] for path in store.trees.folder.glob("*.replaced-*")}
        assert kept == ({diff_id_of(_OLD).hex} if container else set())
        if container:
            assert host.tool("podman", "exec", name, "cat", "/opt/app") == "old\n"
            host.tool("podman", "rm", "--force", "--time=0", name)
    assert host.run(_NAME, "cat", "/opt/app") == "old\n"


def test_damaged_tree_goes_once_no_image_has_it(store: ImageStore, ask: Ask) -> None:
    tree = store.trees.path(diff_id_of(_OLD))
    store.trees.distrust(diff_id_of(_OLD))
    ask("gc", "--keep-days", "0")
    assert tree.is_dir()
    add_layer(store, _NEW)
    replace_image(store)
    ask("gc", "--keep-days", "0")
    assert not list(tree.parent.glob(f"{tree.name}*"))


def test_gc_removes_nothing_of_the_store_if_storage_cannot_be_asked(
    host: StorageHost, store: ImageStore, read: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_image(store)
    damaged = host.folder / "graph/overlay-images/images.json"
    host.tool("podman", "images")
    damaged.write_text("{")
    _, err = read("gc", "--keep-days", "0")
    assert "the image store is left as it is" in err
    damaged.unlink()
    monkeypatch.setenv("PATH", str(host.folder))
    _, err = read("gc", "--keep-days", "0")
    assert "the image store is left as it is: buildah is not installed" in err
    assert left(store) == [True, True, True]
    assert len(store.images()) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
@pytest.mark.parametrize("words", [("verify",), ("gc", "--keep-days", "0"), ("rm", "made-up/app")])
def test_store_that_is_read_only_is_named_and_not_the_cache(
    host: StorageHost, store: ImageStore, read: Callable[..., tuple[str, str]], words: tuple[str, ...]
) -> None:
    (store.trees.path(diff_id_of(_OLD)) / "opt/app").chmod(0o666)
    for options in (("--bind", str(host.store)), ("-o", "remount,ro,bind")):
        subprocess.run(("mount", *options, str(host.store)), check=True)
    try:
        _, err = read(*words, code=1)
    finally:
        subprocess.run(("umount", "--lazy", str(host.store)), check=True)
    assert f"error: {host.store}: the file system is read-only\nhint: use another folder: BUILDKIT_STORE=/path\n" in err


@pytest.mark.parametrize(("request_", "code"), [(("gc", "--keep-days", "0"), 0), (("rm", "made-up/app"), 1)])
def test_storage_conf_that_cannot_be_read_is_named_and_nothing_removed(
    host: StorageHost, store: ImageStore, read: Callable[..., tuple[str, str]], request_: tuple[str, ...], code: int
) -> None:
    replace_image(store)
    conf = host.folder / "storage.conf"
    conf.write_text("x = [")
    _, err = read(*request_, code=code)
    assert f"{conf} is not TOML: Invalid value" in err
    assert "toml: line" not in err, "what buildah says of it"
    assert left(store) == [True, True, True]
    assert len(store.images()) == 2


@pytest.mark.parametrize("which", ["store", "another"])
def test_store_that_went_away_is_named_by_gc_with_what_mends_it(
    host: StorageHost, store: ImageStore, ask: Ask, read: Callable[..., tuple[str, str]], which: str
) -> None:
    conf, gone = host.folder / "storage.conf", host.folder / which
    if which == "store":
        shutil.rmtree(gone)
    else:
        replace_image(store)
        conf.write_text(conf.read_text().replace("stores = [", f'stores = ["{gone}", '))
    _, err = read("gc", "--keep-days", "0")
    said = f"{conf} names {gone}, which does not exist: podman, buildah and skopeo fail (mkdir -p {gone}, or "
    assert f"local storage is not looked at: {said}" in err
    assert (f"the image store is left as it is: {said}" in err) == (which == "another")
    assert "exit code" not in err
    if which == "another":
        assert f"error: {said.partition(' (')[0]}\nhint: mkdir -p {gone}" in read("rm", "made-up/app", code=1)[1]
        assert left(store) == [True, True, True]
    subprocess.run(("mkdir", "-p", gone), check=True)
    host.tool("podman", "images")
    assert read("gc", "--keep-days", "0")[1] == ""
    assert not host.store.is_dir() or len(ImageStore.open(host.store).images()) == (which == "another")


def test_layers_with_a_tree_are_present_and_young_ones_stay(store: ImageStore, stocked: Stocked, ask: Ask) -> None:
    key = stocked.unmade("app", _OLD)
    stocked.unmade("young", _ROOT, days=1)
    store.remove([image.id for image in store.images()], (), ())
    states = {thing["name"]: (thing["state"], thing["size"]) for thing in ask("ls")["things"]}
    assert states["young"] == ("present", len(_ROOT))
    assert states["app"] == ("present", len(_OLD))
    assert states[diff_id_of(_NEW).short] == ("present", len(_NEW))
    assert {item["name"] for item in ask("gc")["dropped"]} == {"app", diff_id_of(_NEW).short}
    assert left(store) == [True, False, False]
    assert ask("why", key.hex)


def test_rm_removes_names_and_images_and_refuses_what_is_used(
    host: StorageHost, store: ImageStore, ask: Ask, read: Callable[..., tuple[str, str]]
) -> None:
    store.put_image(image_of(_ROOT, _OLD), ("localhost/made-up/app:1",))
    assert ask("rm", "made-up/app:1") == {"untagged": ["localhost/made-up/app:1"], "removed": [], "kept": []}
    _, err = read("rm", "made-up/ap", code=2)
    assert "did you mean localhost/made-up/app:latest?" in err
    name = host.tool("podman", "create", "--network=none", _NAME, "id").strip()
    _, err = read("rm", "made-up/app", code=1)
    assert f"a container uses {_NAME}" in err
    host.tool("podman", "rm", name)
    (image,) = store.images()
    out, _ = read("rm", image.id[:12])
    assert out.startswith(f"untagged {_NAME}\nremoved {image.id[:12]}\n")
    assert store.images() == ()
    assert "app" not in host.tool("podman", "images")
    assert left(store) == [True] * 3
    assert "podman image rm removes others" in read("rm", "made-up/app", code=2)[1]


@pytest.mark.parametrize("by", ["name", "id"])
def test_rm_keeps_an_image_to_which_a_name_of_podmans_refers(
    host: StorageHost, store: ImageStore, ask: Ask, read: Callable[..., tuple[str, str]], by: str
) -> None:
    host.tool("podman", "tag", _NAME, "localhost/mine:1")
    (image,) = store.images()
    wanted = "made-up/app" if by == "name" else image.id[:12]
    assert ask("rm", wanted) == {"untagged": [_NAME], "removed": [], "kept": [image.id]}
    assert host.run("localhost/mine:1", "cat", "/opt/app") == "old\n"
    assert [one.names for one in store.images()] == [()]
    assert read("rm", image.id[:12])[0].startswith(f"kept {image.id[:12]}: your own storage refers to it")
    host.tool("podman", "rmi", "--no-prune", *own_names(host))
    assert ask("rm", image.id[:12])["removed"] == [image.id]


def test_rm_has_the_command_for_a_name_that_own_storage_has_too(
    host: StorageHost, store: ImageStore, read: Callable[..., tuple[str, str]]
) -> None:
    host.tool("podman", "tag", _NAME, "localhost/mine:1")
    assert ("podman untag" in read("rm", "made-up/app")[0]) == (_NAME in own_names(host))
    store.put_image(image_of(_ROOT, _OLD), (_NAME,))
    host.tool("podman", "tag", "localhost/mine:1", _NAME)
    command = f"podman untag {_NAME} {_NAME}"
    assert f"\nyour own storage has {_NAME}, too: {command} takes it away\n" in read("rm", "made-up/app")[0]
    assert _NAME in own_names(host)
    host.tool(*command.split())
    assert _NAME not in own_names(host)
    assert host.run("localhost/mine:1", "cat", "/opt/app") == "old\n"


def own_names(host: StorageHost) -> list[str]:
    """Return the names of the user's own storage, into which podman 5 copies all names of an image with one."""
    return host.tool("podman", "images", "--filter=readonly=false", "--format", "{{.Repository}}:{{.Tag}}").split()


def test_verify_names_the_altered_file_and_distrusts_its_tree(store: ImageStore, stocked: Stocked, ask: Ask) -> None:
    stocked.unmade("app", _OLD)
    assert ask("verify")["ok"]
    (store.trees.path(diff_id_of(_OLD)) / "opt/app").chmod(0o777)
    answer = ask("verify", code=1)
    assert [(flaw["name"], flaw["what"]) for flaw in answer["flaws"]] == [
        ("app", "its tree: opt/app has mode 0777, not 0644")
    ]
    assert left(store) == [True, False, True]
    assert store.trees.path(diff_id_of(_OLD)).is_dir()
    add_layer(store, _OLD)
    assert ask("verify")["ok"]


def test_du_adds_up_the_image_store(store: ImageStore, ask: Ask, read: Callable[..., tuple[str, str]]) -> None:
    found = ask("du")["image_store"]
    assert (found["layers"], found["size"]) == (3, len(_ROOT) + len(_OLD) + len(_NEW))
    assert [image["names"] for image in found["images"]] == [[_NAME]]
    assert f"\n  {_NAME}\n" in read("du")[0]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("app/runtime", "localhost/app/runtime:latest"),
        ("app/runtime:2", "localhost/app/runtime:2"),
        ("localhost/app", "localhost/app:latest"),
        ("quay.io:443/app", "quay.io:443/app:latest"),
    ],
)
def test_names_are_completed(text: str, name: str) -> None:
    assert complete_name(text) == name


@pytest.mark.parametrize("lost", ["manifest", "overlay", "overlay/l", "layers.json"])
def test_image_whose_records_are_lost_is_named_removed_and_delivered_again(
    host: StorageHost, store: ImageStore, ask: Ask, lost: str
) -> None:
    (image,) = store.images()
    if lost == "manifest":
        (host.store / "overlay-images" / image.id / lost).unlink()
    elif lost == "layers.json":
        (host.store / "overlay-layers" / lost).unlink()
    else:
        for path in (host.store / lost).glob("*" if lost.endswith("l") else "??????*"):
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
    flaws = [flaw for flaw in ask("verify", code=1)["flaws"] if "records" in flaw["what"]]
    assert [flaw["name"] for flaw in flaws] == [_NAME]
    assert store.images() == ()
    store.put_image(image_of(_ROOT, _OLD), (_NAME,))
    assert ask("verify")["ok"]
    assert host.tool("podman", "run", "--rm", "--network=none", _NAME, "cat", "/opt/app") == "old\n"


def test_tree_whose_folder_is_gone_is_named_and_distrusted(store: ImageStore, stocked: Stocked, ask: Ask) -> None:
    stocked.unmade("app", _OLD)
    shutil.rmtree(store.trees.path(diff_id_of(_OLD)))
    assert [(flaw["name"], flaw["what"]) for flaw in ask("verify", code=1)["flaws"]] == [
        ("app", "its tree: its folder is gone")
    ]
    assert left(store) == [True, False, True]


@pytest.mark.parametrize("name", ["overlay-images/images.json", "overlay-layers/layers.json"])
def test_damaged_list_of_records_is_an_error_that_says_what_to_do(
    host: StorageHost, store: ImageStore, read: Callable[..., tuple[str, str]], name: str
) -> None:
    (host.store / name).write_text("[{")
    _, err = read("verify", code=1)
    assert f"error: {host.store / name} is damaged" in err
    assert f"rm {host.store / name} && nox -s cache -- verify" in err
