"""Notes: what a dead build made elsewhere is found and removed, what a living one made is not."""

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
def notes(tmp_path: Path) -> Leases:
    return Blobs(tmp_path).notes


def names(notes: Leases) -> list[str]:
    return sorted(path.name for path in notes.folder.glob("*"))


def sweep(notes: Leases, *, stay: Sequence[str] = ()) -> list[str]:
    """What was asked to be removed; all of it goes but what should ``stay``."""
    asked: list[str] = []

    def remove(dead: Sequence[str]) -> set[str]:
        asked.extend(dead)
        return set(dead) - set(stay)

    notes.sweep(remove)
    return sorted(asked)


def _note_and_die(notes: Leases, *dead: str) -> None:
    for name in dead:
        notes.hold(name).__enter__()
    os._exit(0)


def die(notes: Leases, *dead: str) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_note_and_die, args=(notes, *dead))
    child.start()
    child.join(60)


def test_what_is_struck_off_is_forgotten(notes: Leases) -> None:
    assert sweep(notes) == []
    with notes.hold("a") as held:
        assert names(notes) == ["a"]
        held.release()
        assert names(notes) == []
    assert sweep(notes) == []


def test_what_is_not_struck_off_is_removed_later(notes: Leases) -> None:
    with pytest.raises(KeyError), notes.hold("a"):
        raise KeyError
    assert sweep(notes) == ["a"]
    assert names(notes) == []


def test_what_the_dead_noted_is_removed_and_what_the_living_noted_is_not(notes: Leases) -> None:
    die(notes, "a", "b")
    with notes.hold("c"):
        assert sweep(notes) == ["a", "b"]
        assert names(notes) == ["c"]


def test_what_could_not_be_removed_is_tried_again(notes: Leases) -> None:
    die(notes, "a", "b")
    assert sweep(notes, stay=["b"]) == ["a", "b"]
    assert sweep(notes) == ["b"]
    assert sweep(notes) == []


def test_a_program_that_inherits_a_note_keeps_it_alive(notes: Leases) -> None:
    with notes.hold("a") as held:
        argv = (sys.executable, "-c", "input()")
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=(held.handle,))
    assert sweep(notes) == []
    child.communicate(b"\n")
    assert sweep(notes) == ["a"]


def test_a_note_that_is_swept_before_it_is_locked_is_made_again(notes: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    real, swept = fcntl.flock, list[list[str]]()

    def flock(handle: int, kind: int) -> None:
        if kind == fcntl.LOCK_EX and not swept:
            swept.append([])
            swept[0] += sweep(notes)
        real(handle, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    with notes.hold("a"):
        assert swept == [["a"]]
        assert names(notes) == ["a"]
        assert sweep(notes) == []


def test_nobody_makes_what_is_being_removed(notes: Leases) -> None:
    """Whoever would take the name of a dead note waits until it is gone."""
    die(notes, "a")

    def remove(dead: Sequence[str]) -> Sequence[str]:
        handle = os.open(notes.folder / "a", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        return dead

    notes.sweep(remove)
    assert names(notes) == []
