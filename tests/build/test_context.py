"""The build context: cached files are verified again before they are used."""

from __future__ import annotations

import os
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


def test_progress_raises_interrupted_once_stop_is_set(context: BuildContext, events: list[Event]) -> None:
    report = context.progress("pack")
    report(1)
    context.stop.set()
    with pytest.raises(Interrupted):
        report(2)
    assert events == [StepProgress(step="pack", done=1)]


@pytest.mark.parametrize("alone", [True, False])
def test_note_names_what_an_opened_cache_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event], alone: bool
) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path))
    blobs, other = Blobs(tmp_path), ExitStack()
    other.enter_context(blobs.in_use(alone=not alone, waiting=pytest.fail, stopped=lambda: False))

    def emit(event: Event) -> None:
        events.append(event)
        other.close()

    with other, open_context(parse_project("", tmp_path), emit, alone=alone):
        pass
    (note,) = events
    assert isinstance(note, Note)
    assert ("all builds and other commands that use this cache" in note.text) is alone
    assert ("`cache gc` or `cache verify`" in note.text) is not alone


def test_get_file_verifies_the_hash_and_removes_a_damaged_file(context: BuildContext) -> None:
    path = context.blobs.file_path(FileHash.of(DATA), "x.whl")
    path.write_bytes(DATA)
    assert context.files.get_file("x 1.0", FileHash.of(DATA), "x.whl") == path
    path.write_bytes(DATA[:-1])
    with pytest.raises(LostError, match=r"x 1\.0: the cached x\.whl was damaged") as caught:
        context.files.get_file("x 1.0", FileHash.of(DATA), "x.whl")
    assert "build again" in caught.value.hint
    assert not path.exists()


def test_get_file_raises_lost_error_for_a_missing_file(context: BuildContext) -> None:
    with pytest.raises(LostError, match=r"x 1\.0: the cached x\.whl is gone") as caught:
        context.files.get_file("x 1.0", FileHash.of(DATA), "x.whl")
    assert "build again" in caught.value.hint


@pytest.mark.parametrize("fetched_again", [True, False])
def test_get_file_keeps_a_file_that_another_build_replaced_meanwhile(
    context: BuildContext, monkeypatch: pytest.MonkeyPatch, fetched_again: bool
) -> None:
    """The other build has removed the damaged file, and may have fetched it again."""
    path = context.blobs.file_path(FileHash.of(DATA), "x.whl")
    path.write_bytes(DATA[:-1])
    hash_file = context.stat_index.hash

    def hash_slowly(path: Path) -> tuple[FileHash, os.stat_result]:
        found = hash_file(path)
        path.rename(path.with_name("removed"))
        if fetched_again:
            path.write_bytes(DATA)
        return found

    monkeypatch.setattr(context.stat_index, "hash", hash_slowly)
    with pytest.raises(LostError, match="damaged"):
        context.files.get_file("x 1.0", FileHash.of(DATA), "x.whl")
    assert path.exists() is fetched_again


def test_find_wheel_needs_both_ledger_row_and_file(context: BuildContext) -> None:
    assert context.files.find_wheel(KEY) is None
    context.ledger.wheels.add(KEY, "{}", "x.whl", FileHash.of(DATA), 1.0)
    assert context.files.find_wheel(KEY) is None
    context.blobs.file_path(FileHash.of(DATA), "x.whl").write_bytes(DATA)
    assert context.files.find_wheel(KEY) == ("x.whl", FileHash.of(DATA))
