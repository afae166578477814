"""Folders in which roots are made: nothing of a killed build stays, neither files nor mounts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buildkit.build import pipeline
from buildkit.build.root_folders import remove_root_folders, root_folder, select_root_folders, sweep_root_folders
from buildkit.store.blobs import Blobs
from buildkit.store.leases import Leases
from buildkit.tools.apt import AptResolveRequest, resolve_apt
from tests.waiting import wait_until

_REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_folder_may_be_entered_by_others_and_goes_with_all_that_is_in_it(tmp_path: Path, temporary: Path) -> None:
    leases, umask = Leases(tmp_path / "boxes"), os.umask(0o077)
    try:
        with root_folder(leases) as folder:
            assert folder.path.parent == temporary
            assert folder.path.stat().st_mode & 0o777 == 0o711
            (folder.path / "left").write_text("by mmdebstrap")
            sweep_root_folders(leases)
            assert (folder.path / "left").exists(), "its build lives"
    finally:
        os.umask(umask)
    assert list(temporary.iterdir()) == list(leases.folder.iterdir()) == []


def test_lease_of_another_place_or_of_none_removes_nothing(tmp_path: Path) -> None:
    leases, precious = Leases(tmp_path / "boxes"), tmp_path / "precious"
    precious.mkdir()
    names = ("root-000000000000", "root-000000000001", "buildkit-1-000000000000")
    for name, place in zip(names, (str(precious), "", ""), strict=True):
        with leases.hold(name) as lease:
            os.write(lease.handle, place.encode())
    assert select_root_folders(names) == names[:2]
    sweep_root_folders(leases)
    assert precious.exists()
    assert [path.name for path in leases.folder.iterdir()] == ["buildkit-1-000000000000"], "a container's"


def test_next_build_sweeps_folders_and_containers_apart(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, asked = Blobs(tmp_path / "cache"), list[Sequence[str]]()

    def remove_containers(names: Sequence[str]) -> frozenset[str]:
        asked.append(names)
        return frozenset(names)

    monkeypatch.setattr("buildkit.tools.buildah.remove_containers", remove_containers)
    left = temporary / "buildkit-root-000000000000"
    (left / "mmdebstrap.x").mkdir(parents=True)
    with blobs.leases.hold(left.name.removeprefix("buildkit-")) as lease, blobs.leases.hold("buildkit-1-000000000000"):
        os.write(lease.handle, os.fsencode(left))
    assert len(list(blobs.leases.folder.iterdir())) == 2
    context: Any = SimpleNamespace(blobs=blobs)
    pipeline._sweep(context)
    assert asked == [("buildkit-1-000000000000",)]
    assert list(temporary.iterdir()) == list(blobs.leases.folder.iterdir()) == []


def test_folder_that_cannot_be_removed_keeps_its_lease(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases(tmp_path / "boxes")
    with root_folder(leases) as folder:
        (folder.path / "left").touch()
        monkeypatch.setattr("buildkit.build.root_folders.in_user_namespace", lambda _argv: ("false",))
    (lease,) = leases.folder.iterdir()
    assert remove_root_folders(leases, (lease.name,)) == frozenset()
    sweep_root_folders(leases)
    assert lease.exists()
    monkeypatch.undo()
    sweep_root_folders(leases)
    assert list(temporary.iterdir()) == list(leases.folder.iterdir()) == []


@pytest.fixture(scope="module")
def pins() -> tuple[str, ...]:
    """What is installed in a container, at the versions of today."""
    request = AptResolveRequest(packages=("netbase",), suite="trixie", variant="essential", arch="amd64")
    return tuple(f"{pin.name}={pin.version}" for pin in resolve_apt(request))


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder for temporary files that another user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="buildkit-tests-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.tools
@pytest.mark.network
@pytest.mark.parametrize("whole", [True, False])
def test_killed_mmdebstrap_leaves_neither_mounts_nor_files(
    tmp_path: Path, reachable: Path, pins: tuple[str, ...], whole: bool
) -> None:
    """With all of its children; or alone, and then mmdebstrap ends, too."""
    leases = Leases(tmp_path / "boxes")
    argv = (sys.executable, "-m", "tests.build.making_root", str(leases.folder), *pins)
    env = {**os.environ, "TMPDIR": str(reachable)}
    with subprocess.Popen(argv, env=env, cwd=_REPOSITORY, stdout=subprocess.PIPE, text=True) as making:
        assert making.stdout is not None
        place = Path(making.stdout.readline().strip())
        assert any("installing" in line for line in iter(making.stdout.readline, ""))
        wait_until(lambda: any(_mounts_below(place, pid) for pid in _descendants(making.pid)))
        doomed = list(_descendants(making.pid)) if whole else []
        for pid in (making.pid, *doomed):
            with suppress(ProcessLookupError):  # a child that ends meanwhile
                os.kill(pid, signal.SIGKILL)
    assert _mounts_below(reachable, os.getpid()) == []
    assert list(place.iterdir()) != []
    wait_until(lambda: _swept(leases))
    assert list(reachable.iterdir()) == []


def _swept(leases: Leases) -> bool:
    """Sweep, and return whether that was all: a program that is being killed holds the lease until it is gone."""
    sweep_root_folders(leases)
    return not list(leases.folder.iterdir())


def _descendants(pid: int) -> Iterator[int]:
    with suppress(OSError):  # it ends
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _mounts_below(folder: Path, pid: int) -> list[str]:
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/mounts").read_text().splitlines()
        return [line for line in lines if line.split(" ")[1].startswith(str(folder))]
    return []
