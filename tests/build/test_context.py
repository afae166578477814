"""What a build has at hand: files of the cache are looked at again before they are used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from buildkit.build.context import Shop, open_shop
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
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[Event]) -> Iterator[Shop]:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    with open_shop(parse_project("", tmp_path), said.append, 1) as made:
        yield made


def test_a_step_ends_soon_after_a_stop_was_asked_for(shop: Shop, said: list[Event]) -> None:
    report = shop.progress("pack")
    report(1)
    shop.stop.set()
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

    def say(event: Event) -> None:
        said.append(event)
        other.close()

    with other, open_shop(parse_project("", tmp_path), say, 1, alone=alone):
        pass
    (note,) = said
    assert isinstance(note, Note)
    assert ("the builds, and what else uses this cache," in note.text) is alone
    assert ("`cache gc` or `cache verify`" in note.text) is not alone


def test_a_file_is_held_against_its_hash_and_removed_where_it_was_damaged(shop: Shop) -> None:
    path = shop.blobs.file_path(FileHash.of(DATA), "x.whl")
    path.write_bytes(DATA)
    assert shop.get_file("x 1.0", FileHash.of(DATA), "x.whl") == path
    path.write_bytes(DATA[:-1])
    with pytest.raises(LostError, match=r"x 1\.0: the cached x\.whl was damaged") as caught:
        shop.get_file("x 1.0", FileHash.of(DATA), "x.whl")
    assert "build again" in caught.value.hint
    assert not path.exists()


def test_a_file_that_is_gone_since_the_plan_is_planned_anew(shop: Shop) -> None:
    with pytest.raises(LostError, match=r"x 1\.0: the cached x\.whl is gone") as caught:
        shop.get_file("x 1.0", FileHash.of(DATA), "x.whl")
    assert "build again" in caught.value.hint


@pytest.mark.parametrize("mended", [True, False])
def test_another_build_that_finds_the_same_damage_loses_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    """It removed the file, too, and may have fetched it again."""
    path = shop.blobs.file_path(FileHash.of(DATA), "x.whl")
    path.write_bytes(DATA[:-1])
    look = shop.index.hash

    def look_slowly(path: Path) -> tuple[FileHash, os.stat_result]:
        found = look(path)
        path.rename(path.with_name("removed"))
        if mended:
            path.write_bytes(DATA)
        return found

    monkeypatch.setattr(shop.index, "hash", look_slowly)
    with pytest.raises(LostError, match="damaged"):
        shop.get_file("x 1.0", FileHash.of(DATA), "x.whl")
    assert path.exists() is mended


def test_a_compiled_wheel_is_known_while_it_is_there(shop: Shop) -> None:
    assert shop.find_wheel(KEY) is None
    shop.ledger.add_wheel(KEY, "{}", "x.whl", FileHash.of(DATA), 1.0)
    assert shop.find_wheel(KEY) is None
    shop.blobs.file_path(FileHash.of(DATA), "x.whl").write_bytes(DATA)
    assert shop.find_wheel(KEY) == ("x.whl", FileHash.of(DATA))
