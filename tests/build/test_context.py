"""What a build has at hand: files of the cache are looked at again before they are used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from buildkit.build.context import BuildContext, open_context
from buildkit.declare.project import parse_project
from buildkit.digest import FileHash, Key
from buildkit.errors import Interrupted, LostError
from buildkit.events import Event, Note, StepProgress
from buildkit.store.blobs import Blobs

DATA = b"a wheel"
KEY = Key.of(b"k")


@pytest.fixture
def said() -> list[Event]:
    return []


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[Event]) -> Iterator[BuildContext]:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    with open_context(parse_project("", tmp_path), said.append) as made:
        yield made


def test_a_step_ends_soon_after_a_stop_was_asked_for(context: BuildContext, said: list[Event]) -> None:
    report = context.progress("pack")
    report(1)
    context.stop.set()
    with pytest.raises(Interrupted):
        report(2)
    assert said == [StepProgress(step="pack", done=1)]


@pytest.mark.parametrize("alone", [True, False])
def test_who_waits_is_told_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[Event], alone: bool
) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path))
    blobs, other = Blobs(tmp_path), ExitStack()
    other.enter_context(blobs.in_use(alone=not alone, waiting=pytest.fail, stopped=lambda: False))

    def emit(event: Event) -> None:
        said.append(event)
        other.close()

    with other, open_context(parse_project("", tmp_path), emit, alone=alone):
        pass
    (note,) = said
    assert isinstance(note, Note)
    assert ("all builds and other commands that use this cache" in note.text) is alone
    assert ("`cache gc` or `cache verify`" in note.text) is not alone


def test_a_file_is_held_against_its_hash_and_removed_where_it_was_damaged(context: BuildContext) -> None:
    path = context.blobs.file_path(FileHash.of(DATA), "x.whl")
    path.write_bytes(DATA)
    assert context.files.get_file("x 1.0", FileHash.of(DATA), "x.whl") == path
    path.write_bytes(DATA[:-1])
    with pytest.raises(LostError, match=r"x 1\.0: the cached x\.whl was damaged") as caught:
        context.files.get_file("x 1.0", FileHash.of(DATA), "x.whl")
    assert "build again" in caught.value.hint
    assert not path.exists()


def test_a_file_that_is_gone_since_the_plan_is_planned_anew(context: BuildContext) -> None:
    with pytest.raises(LostError, match=r"x 1\.0: the cached x\.whl is gone") as caught:
        context.files.get_file("x 1.0", FileHash.of(DATA), "x.whl")
    assert "build again" in caught.value.hint


@pytest.mark.parametrize("mended", [True, False])
def test_another_build_that_finds_the_same_damage_loses_nothing(
    context: BuildContext, monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    """It removed the file, too, and may have fetched it again."""
    path = context.blobs.file_path(FileHash.of(DATA), "x.whl")
    path.write_bytes(DATA[:-1])
    look = context.stat_index.hash

    def look_slowly(path: Path) -> tuple[FileHash, os.stat_result]:
        found = look(path)
        path.rename(path.with_name("removed"))
        if mended:
            path.write_bytes(DATA)
        return found

    monkeypatch.setattr(context.stat_index, "hash", look_slowly)
    with pytest.raises(LostError, match="damaged"):
        context.files.get_file("x 1.0", FileHash.of(DATA), "x.whl")
    assert path.exists() is mended


def test_a_compiled_wheel_is_known_while_it_is_there(context: BuildContext) -> None:
    assert context.files.find_wheel(KEY) is None
    context.ledger.wheels.add(KEY, "{}", "x.whl", FileHash.of(DATA), 1.0)
    assert context.files.find_wheel(KEY) is None
    context.blobs.file_path(FileHash.of(DATA), "x.whl").write_bytes(DATA)
    assert context.files.find_wheel(KEY) == ("x.whl", FileHash.of(DATA))
