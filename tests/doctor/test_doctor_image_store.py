"""`doctor -- --enable-store` with the real tools: afterwards a user's own podman runs images of the store."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost
from tests.users import become, ordinary_user, python_of

pytestmark = pytest.mark.tools
_ACT = Path(__file__).parents[1] / "imagestore/acts/store.py"
_NAME = "localhost/app/runtime:latest"
_TEAMS = '[storage]\ndriver = "overlay" # ours\n[storage.options]\nadditionalimagestores = ["{team}"] # the team\'s\n'


def _host(before: tuple[str, ...], python: str) -> StorageHost:
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")), before=before)
    host.prepare(stores=False)
    host.env.update({"STORE": str(host.store), "BUILDKIT_STORE": str(host.store), "PYTHON": python})
    (host.folder / "store.py").write_text(_ACT.read_text())
    (host.folder / "root.tar").write_bytes(make_root_tar())
    return host


@pytest.fixture
def root() -> Iterator[StorageHost]:
    """Root, whose storage.conf `CONTAINERS_STORAGE_CONF` names: the host's own is not touched."""
    if os.geteuid() != 0:
        pytest.skip("root's storage needs root")
    import sys

    host = _host((), sys.executable)
    yield host
    host.remove()


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    with ordinary_user("buildkit-doctor") as account:
        yield account


@pytest.fixture(scope="module")
def python(user: pwd.struct_passwd) -> Iterator[str]:
    with python_of(user) as path:
        yield path


@pytest.fixture
def rootless(user: pwd.struct_passwd, python: str) -> Iterator[StorageHost]:
    """An ordinary user without a storage.conf, who never ran podman."""
    host = _host(become(user), python)
    del host.env["CONTAINERS_STORAGE_CONF"]
    host.env.update({"USER": user.pw_name, "LOGNAME": user.pw_name})
    subprocess.run(("chown", "--recursive", f"{user.pw_uid}:{user.pw_gid}", str(host.folder)), check=True)
    yield host
    subprocess.run((*host.before, "podman", "system", "migrate"), env=host.env, cwd=host.folder, check=False)
    subprocess.run((*host.before, "buildah", "unshare", "rm", "-rf", str(host.store)), env=host.env, cwd=host.folder)
    host.remove()


def doctor(host: StorageHost, *options: str, code: int = 0) -> str:
    return host.tool(host.env["PYTHON"], "-m", "buildkit", "doctor", *options, code=code)


def run_image(host: StorageHost) -> None:
    host.tool(host.env["PYTHON"], "store.py", "add", _NAME, "root.tar")
    host.run(_NAME, "ls", "/usr/bin/ls")


def test_root_runs_images_of_the_store_after_one_command(root: StorageHost) -> None:
    file = root.folder / "storage.conf"
    before = file.read_text()
    said = doctor(root, "--enable-store")
    assert f"{file}: additionalimagestores += {root.store}" in said
    run_image(root)
    assert "sees the image store" in doctor(root, "--enable-store")
    assert doctor(root, "--disable-store").startswith(f"{file}: additionalimagestores -= {root.store}")
    assert tomllib.loads(file.read_text()) == tomllib.loads(before.replace("additionalimagestores = []", ""))
    assert "image not known" in root.tool("podman", "image", "inspect", _NAME, code=125)
    assert "does not name" in doctor(root, "--disable-store")


@pytest.mark.parametrize("borrow", ["image", "container"])
def test_store_stays_while_something_of_the_user_stands_on_it(root: StorageHost, borrow: str) -> None:
    doctor(root, "--enable-store")
    run_image(root)
    if borrow == "image":
        (root.folder / "Containerfile").write_text(f"FROM {_NAME}\nLABEL mine=1\n")
        root.tool("podman", "build", "--quiet", "--tag", "mine", "--file", "Containerfile", ".")
    else:
        root.tool("podman", "create", "--name", "mine", _NAME, "ls")
    before = (root.folder / "storage.conf").read_text()
    said = doctor(root, "--disable-store", code=1)
    assert "the image store carries what is in your own storage: " in said
    assert "mine" in said
    assert (root.folder / "storage.conf").read_text() == before
    root.tool("podman", *(("rmi", "--no-prune") if borrow == "image" else ("rm",)), "mine")
    doctor(root, "--disable-store")
    root.tool("podman", "images")


def test_user_without_settings_runs_images_of_the_store(rootless: StorageHost) -> None:
    said = doctor(rootless, "--enable-store")
    file = rootless.folder / "home/.config/containers/storage.conf"
    assert f"{file}: driver = overlay\n" in said
    assert tomllib.loads(file.read_text())["storage"]["options"]["additionalimagestores"] == [str(rootless.store)]
    run_image(rootless)
    assert "images need no import" in rootless.tool(rootless.env["PYTHON"], "-m", "buildkit", "doctor")
    doctor(rootless, "--disable-store")
    assert "image not known" in rootless.tool("podman", "image", "inspect", _NAME, code=125)


def test_store_of_somebody_else_stays_beside_ours(rootless: StorageHost) -> None:
    team = rootless.folder / "team"
    team.mkdir()
    file = rootless.folder / "home/.config/containers/storage.conf"
    file.write_text(_TEAMS.format(team=team))
    for path in (file, team):
        shutil.chown(path, *(rootless.folder.stat().st_uid,) * 2)
    doctor(rootless, "--enable-store")
    run_image(rootless)
    assert all(comment in file.read_text() for comment in ("# ours", "# the team's", str(team)))
    doctor(rootless, "--disable-store")
    assert file.read_text() == _TEAMS.format(team=team)


def test_podman_that_keeps_its_images_by_vfs_still_works(rootless: StorageHost) -> None:
    """Its database names the driver; a storage.conf with another one would stop every command of it."""
    if rootless.tool("podman", "info", "--format", "{{.Store.GraphDriverName}}").strip() != "vfs":
        pytest.skip("this podman takes overlay by itself")
    said = doctor(rootless, "--enable-store", code=1)
    assert "keeps its images by `vfs`" in said
    assert not (rootless.folder / "home/.config/containers/storage.conf").exists()
    rootless.tool("podman", "images")


def test_folder_that_went_away_is_found(root: StorageHost) -> None:
    doctor(root, "--enable-store")
    shutil.rmtree(root.store)
    assert root.tool("podman", "images", code=125)
    said = root.tool(root.env["PYTHON"], "-m", "buildkit", "doctor", code=1)
    assert f"names {root.store}, which is gone" in said
    doctor(root, "--enable-store")  # makes it again
    root.tool("podman", "images")


def test_doctor_has_a_mend_for_settings_with_which_the_tools_fail(root: StorageHost) -> None:
    file, other = root.folder / "storage.conf", root.folder / "team"
    before = file.read_text()
    file.write_text(before.replace("[]", f'["{other}"]'))
    said = " ".join(doctor(root, code=1).split())
    assert f"names {other}, which does not exist" in said
    assert f"mend: mkdir -p {other}, or take it out" in said
    file.write_text("x = [")
    said = " ".join(doctor(root, code=1).split())
    assert f"{file} is not TOML: Invalid value" in said
    assert f"${{EDITOR:-editor}} {file}" in said


def test_store_of_a_newer_version_can_be_left(root: StorageHost) -> None:
    doctor(root, "--enable-store")
    run_image(root)
    version = root.store / "version"
    version.write_text(version.read_text().replace("1", "2", 1))
    said = " ".join(doctor(root, code=1).split())
    assert "the image store is of version 2, and this buildkit knows version 1" in said
    assert "mend: update buildkit; or use another store: BUILDKIT_STORE=/path; or: " in said
    root.tool("podman", "create", "--name", "mine", _NAME, "ls")
    assert "mine" in doctor(root, "--disable-store", code=1)
    root.tool("podman", "rm", "mine")
    kept = sorted(path.name for path in root.store.rglob("*"))
    doctor(root, "--disable-store")
    assert str(root.store) not in (root.folder / "storage.conf").read_text()
    assert sorted(path.name for path in root.store.rglob("*")) == kept
