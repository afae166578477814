"""Clones share blocks with the original, and tell whether it changed while it was read."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.errors import MismatchError
from buildkit.store.file_clone import FileClone, find_clone
from tests.reflinks import sharing_blocks, used_bytes, wait_until_settled

DATA = os.urandom(8 << 20)


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with sharing_blocks(tmp_path_factory.mktemp("disk")) as place:
        yield place


@pytest.fixture
def original(xfs: Path) -> Iterator[Path]:
    path = xfs / "weights.bin"
    path.write_bytes(DATA)
    wait_until_settled(path)
    yield path
    for left in xfs.iterdir():
        left.unlink()


def clone(original: Path) -> FileClone:
    found = find_clone(original, original.with_name("clone"))
    assert found is not None
    return found


def test_clone_takes_no_room_and_keeps_what_the_original_had(original: Path) -> None:
    before = used_bytes(original.parent)
    with clone(original) as made:
        assert b"".join(made.read()) == b"".join(made.read()) == DATA
        made.verify()
    assert used_bytes(original.parent) - before < len(DATA) // 8
    original.write_bytes(b"other")
    assert made.path.read_bytes() == DATA


def test_original_that_is_written_to_while_it_is_read_is_noticed(original: Path) -> None:
    with clone(original) as made:
        with original.open("r+b") as file:
            file.write(b"other")
        with pytest.raises(MismatchError, match=r"weights\.bin has changed since the build began"):
            made.verify()


def test_mapping_that_was_written_through_before_is_noticed(original: Path) -> None:
    with original.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:5] = b"first"  # the page is writable and dirty from here on: writing again leaves no trace in the times
        wait_until_settled(original)
        with clone(original) as made:
            made.verify()
            mapped[:5] = b"later"
            with pytest.raises(MismatchError):
                made.verify()
        assert made.path.read_bytes()[:5] == b"first"


def test_original_that_is_replaced_while_it_is_read_is_read_on(original: Path) -> None:
    with clone(original) as made:
        other = original.with_name("other")
        other.write_bytes(b"other")
        other.replace(original)
        assert b"".join(made.read()) == made.path.read_bytes() == DATA


def test_file_that_was_written_just_now_is_not_cloned(original: Path) -> None:
    ahead = original.stat().st_mtime_ns + 10**15
    os.utime(original, ns=(ahead, ahead))
    assert find_clone(original, original.with_name("clone")) is None
    assert list(original.parent.iterdir()) == [original]


def test_other_file_system_missing_file_and_taken_name_give_no_clone(original: Path, tmp_path: Path) -> None:
    assert find_clone(original, tmp_path / "clone") is None
    assert find_clone(original.with_name("gone"), original.with_name("clone")) is None
    taken = original.with_name("taken")
    taken.write_bytes(b"kept")
    assert find_clone(original, taken) is None
    assert taken.read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == []
