"""The stat index: unchanged files are not read; files that may have changed are."""

from __future__ import annotations

import functools
import mmap
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildkit.digest import FileHash
from buildkit.errors import Interrupted
from buildkit.events import Event, StepFinished, StepProgress, StepStarted
from buildkit.store import stat_index as statindex
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex
from buildkit.store.tables.files import StatKey
from tests.waiting import wait_until

SECOND = 1_000_000_000


class Reads:
    """Counts the files that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = statindex._hash

        def counted(descriptor: int, progress: Callable[[int], None]) -> FileHash:
            self.count += 1
            return real(descriptor, progress)

        monkeypatch.setattr(statindex, "_hash", counted)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def index(ledger: Ledger) -> StatIndex:
    return StatIndex(ledger)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    return path


def settle() -> None:
    """Let the clock leave the tick in which the file was written."""
    time.sleep(0.03)


def sha(index: StatIndex, path: Path) -> FileHash:
    found, stat = index.hash(path)
    assert stat.st_size == path.stat().st_size
    return found


def test_unchanged_file_is_read_once_also_by_the_next_index(index: StatIndex, file: Path, reads: Reads) -> None:
    settle()
    assert sha(index, file) == sha(index, file) == FileHash.of(b"one")
    assert reads.count == 1
    ledger = Ledger(file.parent / "ledger.sqlite")
    assert sha(StatIndex(ledger), file) == FileHash.of(b"one")
    ledger.close()
    assert reads.count == 1


def test_file_hashed_in_the_tick_it_was_written_is_read_again(
    index: StatIndex, file: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = file.stat()
    monkeypatch.setattr(time, "time_ns", lambda: max(stat.st_mtime_ns, stat.st_ctime_ns) + 1000)
    sha(index, file)
    sha(index, file)
    assert reads.count == 2


@pytest.mark.parametrize(
    ("mtime", "ctime", "hashed", "trusted"),
    [
        (9 * SECOND, 9 * SECOND, 10 * SECOND, False),  # perhaps a file system that keeps whole seconds
        (9 * SECOND, 9 * SECOND, 11 * SECOND + 1, True),
        (9 * SECOND + 7, 9 * SECOND, 10 * SECOND, True),
        (9 * SECOND, 9 * SECOND + 7, 9 * SECOND + 10_000_000, False),  # within a tick of the kernel
        (1, 9 * SECOND + 7, 9 * SECOND + 10_000_000, False),
        (1, 9 * SECOND + 7, 9 * SECOND + 20_000_008, True),
        (9 * SECOND + 7, 1, 9 * SECOND + 10_000_000, False),
    ],
)
def test_times_are_trusted_only_if_older_than_the_clock_granularity(
    mtime: int, ctime: int, hashed: int, trusted: bool
) -> None:
    stat = SimpleNamespace(st_mtime_ns=mtime, st_ctime_ns=ctime)
    assert statindex.is_settled(stat, hashed) is trusted


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_future_mtime_or_clock_set_back_has_a_file_read_again(
    index: StatIndex, file: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    if ahead > 0:
        os.utime(file, ns=(time.time_ns(), time.time_ns() + ahead * SECOND))
    else:
        now = time.time_ns() + ahead * SECOND
        monkeypatch.setattr(time, "time_ns", lambda: now)
    settle()
    sha(index, file)
    sha(index, file)
    assert reads.count == 2


def test_replacement_of_same_size_and_mtime_is_noticed(index: StatIndex, file: Path, reads: Reads) -> None:
    settle()
    sha(index, file)
    before = file.stat()
    other = file.with_name("other")
    other.write_bytes(b"two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert sha(index, file) == FileHash.of(b"two")
    assert reads.count == 2


def test_write_in_place_with_mtime_set_back_is_noticed(index: StatIndex, file: Path) -> None:
    settle()
    sha(index, file)
    before = file.stat()
    settle()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sha(index, file) == FileHash.of(b"two")


def like(file: Path, content: bytes) -> Path:
    """Another file of the same times."""
    other = file.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    return other


def test_hard_link_to_a_file_of_same_size_and_mtime_is_noticed(index: StatIndex, file: Path) -> None:
    other = like(file, b"two")
    settle()
    assert [sha(index, path) for path in (file, other)] == [FileHash.of(b"one"), FileHash.of(b"two")]
    file.unlink()
    file.hardlink_to(other)
    assert file.stat().st_mtime_ns == other.stat().st_mtime_ns
    assert sha(index, file) == FileHash.of(b"two")


def test_copy_that_keeps_the_mtime_is_noticed(index: StatIndex, file: Path, tmp_path: Path) -> None:
    other = like(file, b"two")
    settle()
    sha(index, file)
    inode = file.stat().st_ino
    shutil.copy2(other, file)  # cp --preserve
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (inode, other.stat().st_mtime_ns)
    assert sha(index, file) == FileHash.of(b"two")


def stamps_mapped_stores(folder: Path) -> bool:
    """Whether the file system of ``folder`` stamps a file when somebody stores into a mapping of it."""
    path = folder / "probe"
    path.write_bytes(b"-")
    before = path.stat().st_mtime_ns
    settle()
    store(path, b"+")
    return path.stat().st_mtime_ns != before


def store(path: Path, content: bytes) -> None:
    with path.open("r+b") as out, mmap.mmap(out.fileno(), 0) as mapped:
        mapped[: len(content)] = content


def test_store_through_a_memory_mapping_is_noticed(index: StatIndex, file: Path) -> None:
    if not stamps_mapped_stores(file.parent):
        pytest.skip("this file system does not stamp what is stored through mappings")
    settle()
    sha(index, file)
    settle()
    store(file, b"two")
    assert sha(index, file) == FileHash.of(b"two")


def remember(ledger: Ledger, file: Path, content: bytes, hashed_ns: int, **other: int) -> StatIndex:
    """An index in which ``file``, as it is, stands with a hash of something else."""
    stat = file.stat()
    key = StatKey(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    moved = {name: getattr(key, name) + by for name, by in other.items()}
    ledger.files.add(key._replace(**moved), FileHash.of(content), hashed_ns)
    return StatIndex(ledger)


def test_hash_taken_in_the_future_is_not_trusted_and_taken_again(ledger: Ledger, file: Path, reads: Reads) -> None:
    """The clock was a day ahead then; since it was set back, a file may get stamps that another content had."""
    index = remember(ledger, file, b"old", time.time_ns() + 86_400 * SECOND)
    settle()
    assert sha(index, file) == sha(index, file) == FileHash.of(b"one")
    assert reads.count == 1


def test_hash_taken_in_the_past_is_trusted(ledger: Ledger, file: Path, reads: Reads) -> None:
    os.utime(file, ns=(SECOND, SECOND))
    settle()
    index = remember(ledger, file, b"believed", time.time_ns())
    settle()
    assert sha(index, file) == FileHash.of(b"believed")
    assert reads.count == 0


@pytest.mark.parametrize("field", ["device", "inode", "size", "mtime_ns", "ctime_ns"])
def test_file_with_any_other_stat_field_is_another_file(ledger: Ledger, file: Path, field: str) -> None:
    """Above all the same inode number on another device."""
    settle()
    index = remember(ledger, file, b"other", time.time_ns(), **{field: 1})
    settle()
    assert sha(index, file) == FileHash.of(b"one")


def test_file_that_changes_while_it_is_read_is_not_recorded(
    index: StatIndex, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()
    real = statindex._hash

    def change(descriptor: int, progress: Callable[[int], None]) -> FileHash:
        found = real(descriptor, progress)
        file.write_bytes(b"longer")
        return found

    before = statindex.stat_key(file.stat())
    monkeypatch.setattr(statindex, "_hash", change)
    assert index.hash(file)[0] == FileHash.of(b"one")
    assert index._files.find(before) is None
    monkeypatch.setattr(statindex, "_hash", real)
    settle()
    assert sha(index, file) == FileHash.of(b"longer")


def test_hash_follows_links_and_raises_os_error_for_missing_files(index: StatIndex, file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to("file")
    assert sha(index, link) == FileHash.of(b"one")
    with pytest.raises(FileNotFoundError):
        index.hash(file.with_name("no"))
    with pytest.raises(IsADirectoryError):
        index.hash(file.parent)


def test_long_file_is_hashed_completely(index: StatIndex, tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 7)
    path = tmp_path / "long"
    path.write_bytes(data)
    assert sha(index, path) == FileHash.of(data)


def test_reading_a_large_file_emits_progress(ledger: Ledger, tmp_path: Path) -> None:
    """Without progress, a new model of several gigabytes looks like a hang."""
    events: list[Event] = []
    index = StatIndex(ledger, events.append)
    large, small = tmp_path / "large.onnx", tmp_path / "small"
    with large.open("wb") as file:
        file.truncate(200 << 20)
    small.write_bytes(b"x" * 1000)
    for file_ in (small, large):
        os.utime(file_, (1, 1))
        index.hash(file_)
    started, *progress, finished = events
    assert started == StepStarted(step="large.onnx", phase="hash", total=200 << 20)
    assert progress[-1] == StepProgress(step="large.onnx", done=200 << 20)
    assert len(progress) < 1000
    assert isinstance(finished, StepFinished)
    assert finished.size == 200 << 20


def test_many_files_are_known_by_one_query_and_recorded_in_one_transaction(
    index: StatIndex, ledger: Ledger, tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"d{number % 3}/file-{number}" for number in range(700)]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(str(number))
    settle()
    index.hash(tmp_path / names[0])
    expected = {name: FileHash.of(str(number).encode()) for number, name in enumerate(names)}
    asked: list[str] = []
    for method in ("select", "select_one", "execute"):
        real = getattr(ledger.database, method)
        counted = functools.partial(lambda real, query, *rest: asked.append(query) or real(query, *rest), real)
        monkeypatch.setattr(ledger.database, method, counted)
    assert {name: sha256 for name, (sha256, _) in index.hash_all(tmp_path, names).items()} == expected
    assert reads.count == 700
    assert [query.split()[0] for query in asked] == ["SELECT", "BEGIN", "DELETE", *["INSERT"] * 699, "COMMIT"]
    asked.clear()
    again = index.hash_all(tmp_path, names)
    assert {name: sha256 for name, (sha256, _) in again.items()} == expected
    assert [query.split()[0] for query in asked] == ["SELECT"]
    assert reads.count == 700
    assert all(status.st_size == (tmp_path / name).stat().st_size for name, (_, status) in again.items())


def test_hash_all_leaves_links_and_what_cannot_be_read_to_its_user(
    index: StatIndex, tmp_path: Path, file: Path, reads: Reads
) -> None:
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "loop").symlink_to("loop")
    found = index.hash_all(tmp_path, ["file", "link", "loop", "missing", "file/below", "."])
    assert {name: sha256 for name, (sha256, _) in found.items()} == {"file": FileHash.of(b"one")}
    assert reads.count == 1
    assert index.hash_all(tmp_path, []) == {}


def test_hash_all_reads_a_changed_file_again(index: StatIndex, tmp_path: Path, file: Path, reads: Reads) -> None:
    settle()
    index.hash_all(tmp_path, ["file"])
    file.write_bytes(b"two")
    settle()
    assert index.hash_all(tmp_path, ["file"])["file"][0] == FileHash.of(b"two")
    assert reads.count == 2


def test_large_file_is_recorded_before_the_others_are_read(
    index: StatIndex, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "a-large").open("wb") as large:
        large.truncate(200 << 20)
    (tmp_path / "b").write_text("b")
    real, monkeyed = statindex._hash, threading.Event()

    def read(descriptor: int, progress: Callable[[int], None]) -> FileHash:
        if os.fstat(descriptor).st_size > 1:
            monkeyed.set()
            return FileHash.of(b"large")
        assert monkeyed.wait(60)
        key = statindex.stat_key((tmp_path / "a-large").stat())
        wait_until(lambda: ledger.files.find(key) is not None, lambda: "it is recorded after the others only")
        return real(descriptor, progress)

    monkeypatch.setattr(statindex, "_hash", read)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})
    assert len(index.hash_all(tmp_path, ["a-large", "b"])) == 2


def test_interrupt_stops_threads_that_hash(index: StatIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes may be under way in another thread: it stops at its next piece."""
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    stopped: list[BaseException] = []
    under_way = threading.Event()

    def read(descriptor: int, progress: Callable[[int], None]) -> FileHash:
        if os.pread(descriptor, 1, 0) == b"a":  # the one that is waited for
            assert under_way.wait(60)
            raise KeyboardInterrupt
        under_way.set()
        try:
            for number in range(10_000):
                progress(number)
                time.sleep(0.001)
        except BaseException as error:
            stopped.append(error)
            raise
        raise AssertionError

    monkeypatch.setattr(statindex, "_hash", read)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})
    with pytest.raises(KeyboardInterrupt):
        index.hash_all(tmp_path, [path.name for path in paths])
    assert stopped
    assert all(isinstance(error, Interrupted) for error in stopped)
