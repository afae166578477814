"""Locking the images' own Python: which release, for which processors, and what happens without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.events import ignore_event
from buildkit.locks.pins import PythonArchive
from buildkit.locks.python_lock import PYTHON_LOCK, parse_python_lock
from buildkit.resolve.python import lock_python
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.tools.standalone_python import ListedPython, choose_python, clean_url, find_python_urls

GITHUB = "https://github.com/astral-sh/python-build-standalone/releases/download"
RELEASES = ("3.13.9", "3.12.16", "3.12.15", "3.11.14")


def listed(*versions: str, arches: tuple[str, ...] = ("x86_64", "aarch64")) -> tuple[ListedPython, ...]:
    return tuple(
        ListedPython(version=version, build="20261110", arch=arch, key=f"{version}-{arch}", url=f"{GITHUB}/{version}")
        for version in versions
        for arch in arches
    )


class Locker:
    """Locks with a list and archives from memory."""

    def __init__(self, folder: Path) -> None:
        self.request = LockRequest(
            root=folder, target=Target(python="3.12", glibc="2.41", arch="x86_64", standalone=True)
        )
        self.drafts = LockDrafts(folder)
        self.pinned: list[str] = []

    def pin(self, one: ListedPython, _root: Path) -> PythonArchive:
        self.pinned.append(f"{one.version} {one.arch}")
        sha256 = FileHash.of(one.key.encode())
        return PythonArchive(
            version=one.version, build=one.build, arch=one.arch, url=one.url, sha256=sha256, size=1
        )  # fmt: skip

    def lock(self, *versions: str, upgrade: bool = False, **target: str) -> list[str]:
        request = replace(self.request, target=replace(self.request.target, **target))
        self.pinned.clear()
        found = listed(*(versions or RELEASES))
        lock_python(request, self.drafts, lambda _root: found, self.pin, ignore_event, upgrade=upgrade)
        return [f"{one.version} {one.arch}" for one in parse_python_lock(self.drafts.get(PYTHON_LOCK))]


@pytest.fixture
def locker(tmp_path: Path) -> Locker:
    return Locker(tmp_path)


def test_newest_release_that_the_settings_allow_is_locked_once(locker: Locker) -> None:
    assert locker.lock() == ["3.12.16 x86_64"]
    assert locker.lock("3.12.99") == ["3.12.16 x86_64"]  # it is locked
    assert locker.pinned == []
    assert locker.lock("3.12.99", upgrade=True) == ["3.12.99 x86_64"]
    assert locker.lock(python="3.12.15") == ["3.12.15 x86_64"]


def test_upgrade_takes_the_archive_that_was_replaced_at_the_same_release(locker: Locker) -> None:
    locker.lock()
    locked = locker.drafts.get(PYTHON_LOCK)
    sha256 = parse_python_lock(locked)[0].sha256
    locker.drafts.decide(PYTHON_LOCK, locked.replace(sha256.hex, FileHash.of(b"other").hex))
    locker.lock()
    assert locker.drafts.get(PYTHON_LOCK) != locked  # it is not stale, and keeps its bytes until somebody asks
    locker.lock(upgrade=True)
    assert locker.drafts.get(PYTHON_LOCK) == locked


def test_processors_share_one_release(locker: Locker) -> None:
    locker.lock()
    assert locker.lock(arch="aarch64") == ["3.12.16 aarch64", "3.12.16 x86_64"]
    assert locker.pinned == ["3.12.16 aarch64"]
    assert locker.lock("3.12.17", upgrade=True) == ["3.12.17 aarch64", "3.12.17 x86_64"]


def test_release_that_the_list_forgot_is_chosen_anew_for_all_processors(locker: Locker) -> None:
    locker.lock()
    assert locker.lock("3.12.20", arch="aarch64") == ["3.12.20 aarch64", "3.12.20 x86_64"]


@pytest.mark.parametrize(
    ("python", "near"),
    [("3.12.99", "3.12.16, 3.12.15, 3.13.9"), ("3.9", "3.11.14, 3.12.16, 3.12.15"), ("3.11.1", "3.11.14, ")],
)
def test_release_that_no_list_has_names_the_nearest(python: str, near: str) -> None:
    with pytest.raises(DefinitionError, match=f"no Python {python} for x86_64; the nearest are {near}"):
        choose_python(listed(*RELEASES), python, "x86_64")


def test_processor_without_an_archive_is_named(locker: Locker) -> None:
    with pytest.raises(DefinitionError, match="uv's list has no Python for riscv64"):
        choose_python(listed(*RELEASES), "3.12", "riscv64")
    locker.lock()
    only = listed("3.12.20", arches=("x86_64",))
    locker.drafts.decide(PYTHON_LOCK, locker.drafts.get(PYTHON_LOCK).replace("x86_64", "aarch64"))
    with pytest.raises(DefinitionError, match=r"3\.12\.20 for x86_64, and none for aarch64"):
        lock_python(locker.request, locker.drafts, lambda _root: only, locker.pin, ignore_event, upgrade=True)


FILE = "cpython-3.12.16%2B20261110-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"
ARCHIVE = PythonArchive(
    version="3.12.16", build="20261110", arch="x86_64", sha256=FileHash.of(b""), size=1, url=f"{GITHUB}/20261110/{FILE}"
)


def test_mirror_of_uvs_settings_is_used_and_never_locked(tmp_path: Path) -> None:
    assert clean_url(f"https://me:word@mirror.example/pbs/20261110/{FILE}") == ARCHIVE.url
    assert clean_url("https://me:word@own.example/x/python.tar.gz?token=1") == "https://own.example/x/python.tar.gz"
    quiet = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    assert find_python_urls(ARCHIVE, tmp_path, quiet)[-1] == ARCHIVE.url
    (tmp_path / "uv.toml").write_text('python-install-mirror = "https://mirror.example/pbs/"\n')
    assert find_python_urls(ARCHIVE, tmp_path, quiet) == (f"https://mirror.example/pbs/20261110/{FILE}",)
    env = quiet | {"UV_PYTHON_INSTALL_MIRROR": "file:///srv/pbs"}
    assert find_python_urls(ARCHIVE, tmp_path, env) == (f"file:///srv/pbs/20261110/{FILE}",)
    own = replace(ARCHIVE, url="https://own.example/x/python.tar.gz")
    assert find_python_urls(own, tmp_path, env) == (own.url,)
