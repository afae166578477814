"""Files of a cache folder: classified by path and name, measured, removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.store.cache_files import remove, scan_cache_folder

A, B = "a" * 64, "b" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for path, size in {
        f"sha256/{A}": 1,
        "sha256/README": 2,
        f"sha256/{A[:-1]}": 4,
        f"files/{A}/x.whl": 8,
        f"files/{B}/.y.whl.part": 16,
        "files/readme": 32,
        f"files/{B}.old/z": 64,
        "tmp/1-2": 128,
        "tmp/dir-1/in/it": 256,
        f"locks/{A}": 512,
        "locks/in-use": 1024,
        "ledger.sqlite": 2048,
        "ledger.sqlite-wal": 4096,
        "mine": 8192,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes(size))
    return tmp_path


def test_scan_classifies_every_file_and_sizes_add_up(cache: Path) -> None:
    found = scan_cache_folder(cache)
    assert [(one.path, one.size, one.hex) for one in found.blobs] == [(f"sha256/{A}", 1, A)]
    assert [(one.path, one.name, one.hex) for one in found.files] == [(f"files/{A}/x.whl", "x.whl", A)]
    assert {one.path: one.size for one in found.temporaries} == {
        f"files/{B}/.y.whl.part": 16,
        "tmp/1-2": 128,
        "tmp/dir-1": 256,
    }
    assert [one.path for one in found.locks] == [f"locks/{A}"]
    assert (found.ledger, found.other) == (2048, 2 + 4 + 32 + 64 + 1024 + 8192)
    total = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file() and path.suffix != ".sqlite-wal")
    assert found.size == total


def test_scan_reports_mtimes_of_files(cache: Path) -> None:
    os.utime(cache / f"sha256/{A}", (5, 7))
    assert [one.mtime for one in scan_cache_folder(cache).blobs] == [7.0]


def test_scan_of_an_empty_or_missing_folder_finds_nothing(tmp_path: Path) -> None:
    assert scan_cache_folder(tmp_path).size == 0
    assert scan_cache_folder(tmp_path / "no").size == 0


def test_links_count_with_their_targets_and_broken_ones_with_zero(cache: Path) -> None:
    (cache / f"sha256/{B}").symlink_to(cache / "mine")
    (cache / "broken").symlink_to(cache / "nowhere")
    assert [one.size for one in scan_cache_folder(cache).blobs] == [1, 8192]


def test_linked_downloads_count_with_their_own_size_and_broken_ones_as_temporary(cache: Path) -> None:
    own, broken = cache / f"files/{A}/own.whl", cache / f"files/{A}/broken.whl"
    own.symlink_to(cache / "mine")
    broken.symlink_to(cache / "nowhere")
    os.utime(cache / "mine", (5, 7))
    found = scan_cache_folder(cache)
    (linked,) = (one for one in found.files if one.name == "own.whl")
    assert (linked.size, linked.mtime) == (own.lstat().st_size, own.lstat().st_mtime)
    assert [one.name for one in found.temporaries if one.broken] == ["broken.whl"]
    remove(cache, [f"files/{A}/{name}" for name in ("own.whl", "broken.whl", "x.whl")])
    assert not (cache / f"files/{A}").exists()
    assert (cache / "mine").exists()


def test_remove_deletes_files_folders_and_empty_parents(cache: Path) -> None:
    elsewhere = cache / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (cache / "tmp/link").symlink_to(elsewhere)
    (cache / f"files/{A}/y.whl").touch()
    remove(cache, ["tmp/link", "tmp/dir-1", f"sha256/{B}", f"files/{A}/x.whl", f"files/{B}/.y.whl.part"])
    assert sorted(path.name for path in (cache / "tmp").iterdir()) == ["1-2"]
    assert (elsewhere / "kept").exists(), "a link is removed, not what it leads to"
    assert not (cache / f"files/{B}").exists()
    remove(cache, [f"files/{A}/y.whl"])
    assert not (cache / f"files/{A}").exists()
