"""Leases: containers and images of dead builds are removed, those of running builds are not."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from buildkit.store.blobs import Blobs
from buildkit.store.leases import Leases


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Blobs(tmp_path).leases


def names(leases: Leases) -> list[str]:
    return sorted(path.name for path in leases.folder.glob("*"))


def sweep(leases: Leases, *, stay: Sequence[str] = ()) -> list[str]:
    """What was asked to be removed; all of it goes but what should ``stay``."""
    asked: list[str] = []

    def remove(dead: Sequence[str]) -> set[str]:
        asked.extend(dead)
        return set(dead) - set(stay)

    leases.sweep(remove)
    return sorted(asked)


def _hold_and_die(leases: Leases, *dead: str) -> None:
    for name in dead:
        leases.hold(name).__enter__()
    os._exit(0)


def die(leases: Leases, *dead: str) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_hold_and_die, args=(leases, *dead))
    child.start()
    child.join(60)


def test_released_lease_is_not_swept(leases: Leases) -> None:
    assert sweep(leases) == []
    with leases.hold("a") as held:
        assert names(leases) == ["a"]
        held.release()
        assert names(leases) == []
    assert sweep(leases) == []


def test_unreleased_lease_is_swept_later(leases: Leases) -> None:
    with pytest.raises(KeyError), leases.hold("a"):
        raise KeyError
    assert sweep(leases) == ["a"]
    assert names(leases) == []


def test_sweep_passes_leases_of_dead_processes_only(leases: Leases) -> None:
    die(leases, "a", "b")
    with leases.hold("c"):
        assert sweep(leases) == ["a", "b"]
        assert names(leases) == ["c"]


def test_sweep_tries_again_what_could_not_be_removed(leases: Leases) -> None:
    die(leases, "a", "b")
    assert sweep(leases, stay=["b"]) == ["a", "b"]
    assert sweep(leases) == ["b"]
    assert sweep(leases) == []


def test_program_that_inherits_a_lease_holds_it(leases: Leases) -> None:
    with leases.hold("a") as held:
        argv = (sys.executable, "-c", "input()")
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=(held.handle,))
    assert sweep(leases) == []
    child.communicate(b"\n")
    assert sweep(leases) == ["a"]


def test_lease_swept_before_it_is_locked_is_created_again(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    real, swept = fcntl.flock, list[list[str]]()

    def flock(handle: int, kind: int) -> None:
        if kind == fcntl.LOCK_EX and not swept:
            swept.append([])
            swept[0] += sweep(leases)
        real(handle, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    with leases.hold("a"):
        assert swept == [["a"]]
        assert names(leases) == ["a"]
        assert sweep(leases) == []


def test_name_cannot_be_leased_while_it_is_swept(leases: Leases) -> None:
    """A process that wants the name of a dead lease waits until it is gone."""
    die(leases, "a")

    def remove(dead: Sequence[str]) -> Sequence[str]:
        handle = os.open(leases.folder / "a", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        return dead

    leases.sweep(remove)
    assert names(leases) == []
