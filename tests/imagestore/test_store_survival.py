"""Killed writers, full and read-only disks, several processes at once, services that stay: nobody sees half of it."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.imagestore.image_store import ImageStore
from tests.e2e.test_survival_disk import enlarge, small_disk
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.debian13 import DEBIAN_13, ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.imagestore.tars import add_layer, diff_id_of, entry, image_of, make_tar
from tests.waiting import wait_until

pytestmark = pytest.mark.tools
_ACT = Path(__file__).with_name("acts") / "store.py"
_ROOT = make_root_tar()
_APPS = [make_tar(entry("opt/app", b"%d\n" % number)) for number in range(8)]


@pytest.fixture
def host() -> Iterator[StorageHost]:
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    host.prepare()
    host.env["STORE"] = str(host.store)
    (host.folder / "root.tar").write_bytes(_ROOT)
    for number, tar in enumerate(_APPS):
        (host.folder / f"{number}.tar").write_bytes(tar)
    yield host
    host.remove()


def start(host: StorageHost, number: int) -> subprocess.Popen[bytes]:
    """Start a process that adds an image of its own, under its own name and a common one."""
    argv = (sys.executable, str(_ACT), "add", f"localhost/app:{number}", "root.tar", f"{number}.tar")
    return subprocess.Popen(argv, cwd=host.folder, env=host.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(child: subprocess.Popen[bytes]) -> str:
    """Wait for a process; return what it says if it failed."""
    text, _ = child.communicate()
    return text.decode() if child.returncode else ""


def usable(host: StorageHost) -> list[str]:
    """Return the names of all images that podman lists; every one can be run."""
    listed = json.loads(host.tool("podman", "images", "--format=json"))
    names = sorted(name for image in listed for name in image["Names"])
    for name in names:
        assert host.run(name, "cat", "/opt/app") == f"{name.rpartition(':')[2]}\n"
    return names


def test_eight_processes_add_images_while_podman_lists_them(host: StorageHost) -> None:
    ImageStore.open(host.store)
    children = [start(host, number) for number in range(8)]
    while any(child.poll() is None for child in children):
        host.tool("podman", "images", "--format=json")
    assert [finish(child) for child in children] == [""] * 8
    assert usable(host) == [f"localhost/app:{number}" for number in range(8)]
    assert len(list((host.store / "trees").glob("*.json"))) == 9
    assert list((host.store / "tmp").iterdir()) == []


def test_writers_killed_at_any_moment_leave_only_whole_images(host: StorageHost) -> None:
    ImageStore.open(host.store)
    began = time.monotonic()
    assert finish(start(host, 0)) == ""
    usual = time.monotonic() - began
    chance = random.Random(7)
    for number in range(1, 6):
        for _ in range(2):
            child = start(host, number)
            time.sleep(chance.uniform(usual / 3, usual))
            child.kill()
            child.communicate()
    names = usable(host)
    store = ImageStore.open(host.store)
    store.sweep()
    assert list((host.store / "tmp").iterdir()) == []
    assert all(store.find_alteration(diff_id) == "" for diff_id in store.trees.all())
    for number in range(8):
        assert finish(start(host, number)) == ""
    assert usable(host) == [f"localhost/app:{number}" for number in range(8)]
    assert "localhost/app:0" in names


@pytest.mark.parametrize("step", ["tree", "facts", "layers", "images"])
def test_writer_that_dies_between_two_steps_is_made_up_for(
    host: StorageHost, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ImageStore.open(host.store)
    add_layer(store, _ROOT)
    add_layer(store, _APPS[0])
    image = image_of(_ROOT, _APPS[0])
    if step in ("tree", "facts"):
        store.trees.distrust(diff_id_of(_APPS[0]))  # the facts come last
        if step == "tree":
            shutil.rmtree(store.trees.path(diff_id_of(_APPS[0])))
        assert not store.has_tree(diff_id_of(_APPS[0]))
        add_layer(store, _APPS[0])
    else:

        def die(*_arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(f"buildkit.imagestore.{step[:-1]}_records.write_records", die)
            with pytest.raises(KeyboardInterrupt):
                store.put_image(image, ("localhost/app:0",))
        assert usable(host) == []
    ImageStore.open(host.store).put_image(image, ("localhost/app:0",))
    assert usable(host) == ["localhost/app:0"]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@contextmanager
def podman_service(host: StorageHost) -> Iterator[Path]:
    """A long-lived service of podman's API; yields its socket."""
    path = host.folder / "s"
    argv = (*host.before, "podman", "system", "service", "--time=0", f"unix://{path}")
    child = subprocess.Popen(argv, cwd=host.folder, env=host.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(path.exists)
        yield path
    finally:
        child.terminate()
        child.wait()


def ask_service(path: Path, method: str, place: str, body: object = None) -> tuple[int, str]:
    connection = _UnixConnection(path)
    data = None if body is None else json.dumps(body)
    connection.connect()
    with connection.sock:
        return _answer(connection, method, place, data)


def _answer(connection: http.client.HTTPConnection, method: str, place: str, data: str | None) -> tuple[int, str]:
    connection.request(method, f"/v4.0.0/libpod/{place}", body=data, headers={"Content-Type": "application/json"})
    with connection.getresponse() as answer:
        return answer.status, answer.read().decode()


@pytest.mark.parametrize("where", ["here", pytest.param("Debian 13", marks=DEBIAN_13)])
def test_service_that_runs_sees_new_moved_and_removed_images(host: StorageHost, where: str) -> None:
    store = ImageStore.open(host.store)
    for tar in (_ROOT, *_APPS[:2]):
        add_layer(store, tar)
    place = nullcontext(host) if where == "here" else inside(ensure_root(), host)
    with place as host, podman_service(host) as path:

        def listed() -> dict[str, str]:
            status, text = ask_service(path, "GET", "images/json")
            assert status == 200, text
            return {name: image["Id"] for image in json.loads(text) for name in image["RepoTags"] or ()}

        assert listed() == {}
        first = store.put_image(image_of(_ROOT, _APPS[0]), ("localhost/app:latest",))
        assert listed() == {"localhost/app:latest": first}
        status, text = ask_service(
            path, "POST", "containers/create", {"image": "localhost/app:latest", "command": ["cat", "/opt/app"]}
        )
        assert status == 201, text
        second = store.put_image(image_of(_ROOT, _APPS[1]), ("localhost/app:latest",))
        assert listed() == {"localhost/app:latest": second}
        assert ask_service(path, "DELETE", f"containers/{json.loads(text)['Id']}?force=true")[0] in (200, 204)
        store.remove_names(["localhost/app:latest"])
        store.remove([first, second], (), ())
        assert listed() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("room", ["size=1m", "size=4m", "nr_inodes=30", "nr_inodes=45"])
def test_full_disk_is_explained_and_leaves_nothing_half(host: StorageHost, room: str) -> None:
    host.store.mkdir(mode=0o700)
    with small_disk(host.store, room):
        with pytest.raises(BuildError, match="the disk is full") as caught:
            _add_image(host)
        assert "BUILDKIT_STORE=/path" in caught.value.hint
        assert usable(host) == []
        assert list((host.store / "tmp").iterdir()) == []
        enlarge(host.store)
        _add_image(host)
        assert usable(host) == ["localhost/app:0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_read_only_folder_is_explained_and_its_images_run(host: StorageHost) -> None:
    _add_image(host)
    subprocess.run(("mount", "--bind", str(host.store), str(host.store)), check=True)
    subprocess.run(("mount", "-o", "remount,ro,bind", str(host.store)), check=True)
    with pytest.raises(BuildError, match="the file system is read-only"):
        add_layer(ImageStore.open(host.store), _APPS[1])
    assert usable(host) == ["localhost/app:0"]


def test_store_that_was_moved_is_mended(host: StorageHost) -> None:
    _add_image(host)
    host.store.rename(host.folder / "elsewhere")
    (host.folder / "elsewhere").rename(host.store.with_name("moved"))
    moved = ImageStore.open(host.store.with_name("moved"))
    moved.folder.rename(host.store)
    store = ImageStore.open(host.store)
    assert usable(host) == ["localhost/app:0"]
    assert store.has_tree(diff_id_of(_ROOT))


def _add_image(host: StorageHost) -> None:
    store = ImageStore.open(host.store)
    for tar in (_ROOT, _APPS[0]):
        if not store.has_tree(diff_id_of(tar)):
            add_layer(store, tar)
    store.put_image(image_of(_ROOT, _APPS[0]), ("localhost/app:0",))


@pytest.mark.parametrize("lost", ["opt/app", "facts", "link", "lower", "config"])
def test_what_a_crash_of_the_machine_lost_is_made_again(host: StorageHost, lost: str) -> None:
    _add_image(host)
    store = ImageStore.open(host.store)
    (image,) = store.images()
    places = {
        "opt/app": store.trees.path(diff_id_of(_APPS[0])) / lost,
        "facts": host.store / f"trees/{diff_id_of(_APPS[0]).hex}.json",
        "link": host.store / "overlay" / image.top_layer / lost,
        "lower": host.store / "overlay" / image.top_layer / lost,
        "config": next((host.store / "overlay-images" / image.id).glob("=c2hh*")),
    }
    places[lost].write_bytes(b"")
    ImageStore.open(host.store)
    assert places[lost].read_bytes() == b""
    (host.store / "boot").write_text("another start of the machine")
    _add_image(host)
    assert usable(host) == ["localhost/app:0"]
    assert places[lost].read_bytes() != b""
