"""An ordinary user's store: trees with other owners are written, read and removed in the user namespace."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import pwd
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildkit.oci.image import Image
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.contract import NAME, MakeHost, PodmanContract
from tests.imagestore.debian13 import DEBIAN_13, ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.imagestore.tars import entry, folder, make_tar
from tests.users import become, ordinary_user, python_of

pytestmark = pytest.mark.tools
_ACT = Path(__file__).with_name("acts") / "store.py"
_PRIVATE = make_tar(
    folder("opt"),
    folder("opt/closed", mode=0o500, uid=1234, gid=42),
    entry("opt/closed/file", b"theirs\n", mode=0o400, uid=1234, gid=42),
    entry("dev/sda", type=tarfile.BLKTYPE, devmajor=8),
    entry("usr/bin/.wh.touch"),
    folder("usr/lib64"),
    entry("usr/lib64/.wh.nothing"),
)


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    with ordinary_user("buildkit-store") as account:
        yield account


@pytest.fixture(scope="module")
def python(user: pwd.struct_passwd) -> Iterator[str]:
    with python_of(user) as path:
        yield path


@contextmanager
def storage_of(user: pwd.struct_passwd, registry: str = "", *, stores: bool = True) -> Iterator[StorageHost]:
    """Make storage of the user's own, perhaps with a store, and an act that writes into it."""
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")), before=become(user))
    host.prepare(registry, stores=stores)
    host.env.update({"STORE": str(host.store), "USER": user.pw_name, "LOGNAME": user.pw_name})
    (host.folder / "store.py").write_text(_ACT.read_text())
    if os.geteuid() == 0:
        subprocess.run(("chown", "--recursive", f"{user.pw_uid}:{user.pw_gid}", str(host.folder)), check=True)
    try:
        yield host
    finally:
        host.tool("podman", "system", "migrate")  # ends the process that keeps the user's namespaces
        host.tool("buildah", "unshare", "rm", "-rf", str(host.store), str(host.folder / "graph"))
        host.remove()


@pytest.fixture(scope="module")
def host(user: pwd.struct_passwd, python: str) -> Iterator[StorageHost]:
    with storage_of(user) as host:
        for name, tar in (("root.tar", make_root_tar()), ("private.tar", _PRIVATE)):
            (host.folder / name).write_bytes(tar)
        host.tool(python, "store.py", "add", NAME, "root.tar", "private.tar")
        yield host


def test_image_runs_with_owners_and_whiteouts(host: StorageHost) -> None:
    assert " 1234 42 " in host.run(NAME, "ls", "-ln", "/opt/closed")
    assert host.run(NAME, "cat", "/opt/closed/file", options=("--user=1234:42", "--read-only")) == "theirs\n"
    assert "touch" not in host.run(NAME, "ls", "/usr/bin")


def test_saved_layers_have_their_digests(host: StorageHost) -> None:
    host.tool("podman", "save", "--quiet", "--format=docker-archive", f"--output={host.folder}/saved.tar", NAME)
    with tarfile.open(host.folder / "saved.tar") as archive:
        names = {member.name for member in archive if member.isreg()}
    assert names >= {f"{hashlib.sha256(tar).hexdigest()}.tar" for tar in (make_root_tar(), _PRIVATE)}


def test_tar_is_read_again_and_the_tree_removed(host: StorageHost, python: str) -> None:
    tar = make_tar(entry("x", b"1", mode=0, uid=99), folder("d", mode=0o500), entry("d/y", b"2", mode=0o400))
    (host.folder / "own.tar").write_bytes(tar)
    host.tool(python, "store.py", "add", "localhost/own:1", "root.tar", "own.tar")
    digest = hashlib.sha256(tar).hexdigest()
    assert json.loads(host.tool(python, "store.py", "read", digest)) == digest
    host.tool(python, "store.py", "remove", digest)
    assert not list((host.store / "trees").glob(f"{digest}*"))
    assert list((host.store / "tmp").iterdir()) == []


def test_hostile_tar_is_refused_by_the_process_in_the_namespace(host: StorageHost, python: str) -> None:
    (host.folder / "bad.tar").write_bytes(make_tar(entry("a", b"1" * 9_000_000), entry("../x", b"1")))
    text = host.tool(python, "store.py", "add", "localhost/bad:1", "bad.tar", code=1)
    assert "BuildError: the layer: '../x' climbs out of its folder" in text
    assert list((host.store / "tmp").iterdir()) == []


def test_owner_outside_the_subordinate_ids_is_explained(host: StorageHost, python: str) -> None:
    (host.folder / "far.tar").write_bytes(make_tar(entry("a", b"1", uid=4_000_000)))
    text = host.tool(python, "store.py", "add", "localhost/far:1", "far.tar", code=1)
    assert "subordinate ids" in text


def test_leftovers_of_a_dead_process_with_other_owners_are_swept(host: StorageHost, python: str) -> None:
    left = host.store / "tmp/dir-left"
    make = f"mkdir -p {left}/tree/closed && touch {left}/tree/closed/x && chown -R 1234 {left}/tree/closed"
    host.tool("buildah", "unshare", "sh", "-c", make)
    host.tool(python, "store.py", "sweep")
    assert list((host.store / "tmp").iterdir()) == []


def test_damaged_tree_of_other_owners_is_named_and_written_again(host: StorageHost, python: str) -> None:
    tar = make_tar(entry("x", b"12", mode=0o600, uid=99))
    (host.folder / "own.tar").write_bytes(tar)
    digest = hashlib.sha256(tar).hexdigest()
    add = (python, "store.py", "add", "localhost/own:1", "root.tar", "own.tar")
    host.tool(*add)
    host.tool("buildah", "unshare", "chmod", "0640", f"{host.store}/trees/{digest}/x")
    assert json.loads(host.tool(python, "store.py", "find_alteration", digest)) == "x has mode 0640, not 0600"
    host.tool("buildah", "unshare", "sh", "-c", f"echo 1 > {host.store}/trees/{digest}/x")
    assert "x has other content" in host.tool(python, "store.py", "read", digest, code=1)
    host.tool(*add)
    assert json.loads(host.tool(python, "store.py", "find_alteration", digest)) == ""


def test_garbage_is_collected_but_not_under_a_container(host: StorageHost, python: str) -> None:
    tar = make_tar(folder("d", mode=0o500, uid=99), entry("d/x", b"12", mode=0o600, uid=99))
    (host.folder / "own.tar").write_bytes(tar)
    host.tool(python, "store.py", "add", "localhost/own:1", "root.tar", "own.tar")
    name = host.tool("podman", "create", "--network=none", NAME, "cat", "/opt/closed/file").strip()
    try:
        removed = json.loads(host.tool(python, "store.py", "collect"))
        assert hashlib.sha256(tar).hexdigest() in removed
        assert host.tool("podman", "start", "--attach", name) == "theirs\n"
    finally:
        host.tool("podman", "rm", name)
    assert list((host.store / "tmp").iterdir()) == []


class TestPodmanOfUser(PodmanContract):
    """The contract of podman and buildah for an ordinary user."""

    @pytest.fixture(scope="class", params=["here", pytest.param("Debian 13", marks=DEBIAN_13)])
    @classmethod
    def make_host(cls, request: pytest.FixtureRequest, registry: str, user: pwd.struct_passwd) -> MakeHost:
        @contextmanager
        def make(*, stores: bool) -> Iterator[StorageHost]:
            with storage_of(user, registry, stores=stores) as host:
                if request.param == "here":
                    yield host
                else:
                    with inside(ensure_root(), host) as debian:
                        yield debian

        return make

    @pytest.fixture(scope="class")
    @classmethod
    def host(
        cls, make_host: MakeHost, user: pwd.struct_passwd, python: str, image: Image, tars: tuple[bytes, ...]
    ) -> Iterator[StorageHost]:
        with make_host(stores=True) as host:
            names = [f"{number}.tar" for number in range(len(tars))]
            for name, tar in zip(names, tars, strict=True):
                (host.folder / name).write_bytes(tar)
            (host.folder / "config").write_bytes(pickle.dumps(image.config))
            ours = StorageHost(host.folder, before=become(user), env={**host.env, "CONFIG": "config"})
            ours.tool(python, "store.py", "add", NAME, *names)
            yield host
