"""Folders are watched by threads that feed a queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.develop import watcher
from buildkit.develop.change_queue import ChangeQueue
from buildkit.develop.watcher import watching

pytestmark = pytest.mark.tools  # starts stat


def collect(queue: ChangeQueue, *wanted: str) -> None:
    """Wait until all these paths have changed; the suite's time limit ends the wait."""
    missing = set(wanted)
    while missing:
        missing -= queue.take() or set()


@pytest.mark.parametrize("polling", ["", "1"])
def test_changes_are_noticed_from_the_first_moment_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polling: str
) -> None:
    monkeypatch.setenv("BUILDKIT_POLL", polling)
    for folder in ("deep/er", "alone/below"):
        (tmp_path / folder).mkdir(parents=True)
    with watching(tmp_path, ["deep", "missing"], ["alone"]) as queue:
        (tmp_path / "alone/below/unseen").write_text("x")
        (tmp_path / "deep/er/seen").write_text("x")
        (tmp_path / "alone/seen").write_text("x")
        collect(queue, "deep/er/seen", "alone/seen")
        (tmp_path / "deep/new/folder").mkdir(parents=True)
        (tmp_path / "deep/new/folder/file").write_text("x")
        collect(queue, "deep/new/folder/file")
        (tmp_path / "deep/er/seen").unlink()
        collect(queue, "deep/er/seen")


def test_ten_thousand_files_are_one_or_few_batches(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    with watching(tmp_path, ["many"]) as queue:
        for number in range(10_000):
            (tmp_path / f"many/{number}").touch()
        batches, seen = 0, set[str]()
        while len(seen) < 10_000:
            seen |= {path for path in queue.take() or () if path != "many"}
            batches += 1
    assert batches < 100


def test_whatever_ends_a_watch_reaches_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_words: object, **_named: object) -> Iterator[frozenset[str]]:
        raise ModuleNotFoundError("no watchfiles")

    monkeypatch.setattr(watcher, "watch_files", fail)
    with watching(tmp_path, ["."]) as queue, pytest.raises(ModuleNotFoundError):
        queue.take()
