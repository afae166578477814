"""Listings: many unchanged files are known by one row, which is never believed when the rows of files would not be."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from buildkit.digest import FileHash
from buildkit.store import stat_index as statindex
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex
from tests.store.test_stat_index import Reads, like, settle

NAMES = ("a", "b", "c/d", "e")


class Folder(NamedTuple):
    """A folder of files that a ledger has a listing of."""

    path: Path
    ledger: Ledger
    reads: Reads

    def look(self, *names: str, ledger: Ledger | None = None) -> int:
        """Hash the files that there are, and return how many were read for it."""
        settle()
        before = self.reads.count
        found = StatIndex(ledger or self.ledger).hash_all(self.path, names or NAMES)
        there = [name for name in names or NAMES if (self.path / name).is_file()]
        expected = {name: FileHash.of((self.path / name).read_bytes()) for name in there}
        assert {name: sha256 for name, (sha256, _) in found.items()} == expected
        assert all(status.st_ino == (self.path / name).stat().st_ino for name, (_, status) in found.items())
        return self.reads.count - before

    def count(self) -> int:
        """Return the number of listings."""
        (number,) = self.ledger.database.select_one("SELECT COUNT(*) FROM listings")
        return int(number)


@pytest.fixture
def folder(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(statindex, "_MANY", 3)
    path = tmp_path / "folder"
    (path / "c").mkdir(parents=True)
    for name in NAMES:
        (path / name).write_text(f"in {name[:1]}")
    made = Folder(path, ledger, Reads(monkeypatch))
    assert (made.look(), made.look()) == (4, 0)
    assert made.count() == 1
    return made


def test_unchanged_files_are_known_by_one_row_alone(folder: Folder) -> None:
    folder.ledger.database.execute("DELETE FROM files")
    assert folder.look() == 0
    with closing(Ledger(folder.ledger.database.path)) as other:
        assert folder.look(ledger=other) == 0, "another process knows them, too"
    assert folder.look("a", "b") == 2, "a listing of few files would not be worth its row"


def write(path: Path) -> None:
    (path / "b").write_text("IN B")


def write_at_the_same_time(path: Path) -> None:
    before = (path / "b").stat()
    write(path)
    os.utime(path / "b", ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    like(path / "b", b"IN B").replace(path / "b")


def swap(path: Path) -> None:
    (path / "a").rename(path / "spare")
    (path / "b").rename(path / "a")
    (path / "spare").rename(path / "b")


def remove(path: Path) -> None:
    (path / "b").unlink()


@pytest.mark.parametrize("change", [write, write_at_the_same_time, replace, swap])
def test_changed_files_alone_are_read_again(folder: Folder, change: Callable[[Path], None]) -> None:
    change(folder.path)
    assert folder.look() == (2 if change is swap else 1)
    assert folder.look() == 0
    folder.ledger.database.execute("DELETE FROM files")
    assert folder.look() == 0, "there is a listing again"
    assert folder.count() == 1, "which took the place of the one before"


def test_touched_file_is_read_again(folder: Folder) -> None:
    os.utime(folder.path / "b")
    assert folder.look() == 1


def test_files_that_come_and_go_leave_the_others_known(folder: Folder) -> None:
    remove(folder.path)
    assert folder.look() == 0
    (folder.path / "b").write_text("new")
    (folder.path / "bb").write_text("more")
    names = ("a", "b", "bb", "c/d", "e")
    assert folder.look(*names) == 2
    assert folder.look(*names) == 0
    assert folder.count() == 1
    assert folder.look(*reversed(NAMES)) == 0
    assert folder.count() == 2, "it begins and ends with other files"


def test_link_in_the_place_of_a_file_is_none(folder: Folder) -> None:
    remove(folder.path)
    (folder.path / "b").symlink_to("a")
    assert set(StatIndex(folder.ledger).hash_all(folder.path, NAMES)) == {"a", "c/d", "e"}


@pytest.mark.parametrize("change", [
    f"hashes = replace(hashes, substr(hashes, 1, 64), '{FileHash.of(b'forged').hex}')", "hashes = substr(hashes, 65)",
    "hashes = 'no hash'", "hashes = x'ff'", "hashed_ns = 1", "place = 'x'", "stats = 'x'", "sum = ''",
    "sum = (SELECT sum FROM files)",
])  # fmt: skip
def test_altered_listing_counts_as_absent(folder: Folder, change: str) -> None:
    folder.ledger.database.execute(f"UPDATE listings SET {change}")
    assert folder.look() == 0
    folder.ledger.database.execute("DELETE FROM files")
    assert folder.look() == 0, "there is an intact listing again"


def test_listing_of_other_files_is_not_believed_in_their_place(folder: Folder) -> None:
    """Whoever can write to the ledger can bring back a row that was intact."""
    (old,) = folder.ledger.database.select("SELECT * FROM listings")
    write(folder.path)
    folder.look()
    folder.look()
    folder.ledger.database.execute("DELETE FROM listings")
    folder.ledger.database.execute("INSERT INTO listings VALUES (?, ?, ?, ?, ?)", old)
    assert folder.look() == 0


def test_files_hashed_in_the_tick_they_were_written_are_no_listing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder.path)
    changed = (folder.path / "b").stat().st_ctime_ns
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: changed + 1000)
        assert (folder.look(), folder.look()) == (1, 1)
    assert (folder.look(), folder.look()) == (1, 0)


def test_clock_that_was_set_back_has_a_listing_disbelieved(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (newest,) = folder.ledger.database.select_one("SELECT MAX(hashed_ns) FROM files")
    known = folder.ledger.database.select_one("SELECT COUNT(*) FROM files WHERE hashed_ns < ?", (newest,))
    monkeypatch.setattr(time, "time_ns", lambda: newest - 1)
    assert folder.look() == len(NAMES) - known[0]


def test_newer_hash_of_the_same_stat_is_believed_instead(folder: Folder) -> None:
    """A scan in another process, which reads a file anew, finds what no stat tells."""
    status = (folder.path / "b").stat()
    with closing(Ledger(folder.ledger.database.path)) as other:
        StatIndex(other).note(status, status, FileHash.of(b"other"), time.time_ns())
    assert folder.count() == 0
    assert StatIndex(folder.ledger).hash_all(folder.path, NAMES)["b"][0] == FileHash.of(b"other")


def test_listing_stays_while_files_of_other_folders_change(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    settle()
    StatIndex(folder.ledger).hash(tmp_path / "new")
    assert folder.count() == 1


def test_full_disk_costs_only_the_listing(folder: Folder) -> None:
    database, names = folder.ledger.database, [f"c/{number}" for number in range(200)]
    for name in names:
        (folder.path / name).write_text(name)
    assert folder.look(*names) == 200
    database.execute("VACUUM")
    (pages,) = database.select_one("PRAGMA page_count")
    database.select(f"PRAGMA max_page_count = {pages}")
    assert folder.look(*names) == 0
    assert folder.count() == 1, "there was no room for another"
    database.select(f"PRAGMA max_page_count = {pages + 100}")
    assert folder.look(*names) == 0
    assert folder.count() == 2


def test_prune_deletes_old_listings(folder: Folder) -> None:
    files, (newest,) = folder.ledger.files, folder.ledger.database.select_one("SELECT hashed_ns FROM listings")
    files.delete_hashed_before(newest, ())
    assert folder.count() == 1
    files.delete_hashed_before(newest + 1, ())
    assert folder.count() == 0
