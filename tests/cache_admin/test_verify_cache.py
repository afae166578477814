"""verify on a made-up cache: all damage is deleted and reported, files of a running build are not."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from buildkit.errors import Interrupted
from buildkit.store.cache_files import scan_cache_folder
from buildkit.store.integrity import CacheFileVerifier
from tests.cache_admin.stocked import Stocked

Ask = Callable[..., Any]
Read = Callable[..., tuple[str, str]]


def flaws(answer: dict[str, Any]) -> dict[str, str]:
    return {flaw["name"]: flaw["what"] for flaw in answer["flaws"]}


@pytest.fixture
def sound(stocked: Stocked) -> Stocked:
    stocked.root("base", b"debian", b"python")
    stocked.layer("app/app", b"application")
    stocked.wheel("fast", b"compiled")
    stocked.download("x.whl", b"downloaded")
    return stocked


def test_verify_of_an_intact_cache_finds_nothing(sound: Stocked, ask: Ask, read: Read) -> None:
    answer = ask("verify")
    assert (answer["ok"], answer["files"], answer["size"], answer["flaws"], answer["notes"]) == (True, 5, 41, [], [])
    out, stderr = read("verify")
    assert out.startswith("5 files read (41 B) in ")
    assert out.endswith(": nothing is damaged or missing\n")
    assert "blobs and downloads  41 B" in stderr


@pytest.mark.parametrize("data", [b"applicatiom", b"applic", b"", b"application and more"])
def test_verify_deletes_a_damaged_blob_and_records_a_tombstone(sound: Stocked, ask: Ask, data: bytes) -> None:
    path = sound.blob(b"application")
    path.write_bytes(data)
    answer = ask("verify", code=1)
    assert flaws(answer) == {"app/app": "its bytes are others"}
    assert "removed" in answer["flaws"][0]["then"]
    assert not path.exists()
    assert sound.tombstones() == {"app/app": "damaged, found by verify"}
    assert ask("verify")["ok"], "what is known is not wrong any more"


def test_verify_names_every_owner_of_a_damaged_blob(stocked: Stocked, ask: Ask) -> None:
    stocked.layer("a/x", b"shared", b"mine")
    stocked.layer("b/x", b"shared")
    stocked.blob(b"shared").write_bytes(b"shored")
    assert flaws(ask("verify", code=1)) == {"a/x, b/x": "its bytes are others"}
    assert set(stocked.tombstones()) == {"a/x", "b/x"}


def test_verify_reads_downloads_and_compiled_wheels(sound: Stocked, ask: Ask) -> None:
    for path in sound.cache.glob("files/*/*"):
        path.write_bytes(b"other")
    answer = ask("verify", code=1)
    assert len(answer["flaws"]) == 2
    assert "fast-1.0-py3-none-any.whl" in flaws(answer)
    assert sound.tombstones() == {"fast-1.0-py3-none-any.whl": "damaged, found by verify"}
    assert not list(sound.cache.glob("files/*/*"))


def test_verify_reports_missing_blobs_without_tombstone(sound: Stocked, ask: Ask) -> None:
    evicted = sound.layer("app/old", b"old")
    ask("gc")
    assert str(evicted) in str(ask("ls"))
    sound.blob(b"python").unlink()
    assert flaws(ask("verify", code=1)) == {"base/image": "it is not in the cache"}
    assert sound.tombstones()["base/image"] == "missing, found by verify"
    assert ask("verify")["ok"]


def test_verify_reports_orphans_and_temporaries_and_leaves_them(sound: Stocked, ask: Ask) -> None:
    path = sound.orphan(b"orphan")
    (sound.cache / "tmp/1-2").write_bytes(b"half")
    answer = ask("verify")
    assert [(note["what"], note["then"]) for note in answer["notes"]] == [
        ("a blob of no layer (6 B)", "gc removes it"),
        ("left by a build that died (4 B)", "gc removes it"),
    ]
    assert path.exists()
    ask("gc")
    assert ask("verify")["notes"] == []


def test_verify_deletes_a_damaged_orphan(sound: Stocked, ask: Ask) -> None:
    path = sound.orphan(b"orphan")
    path.write_bytes(b"nahpro")
    assert flaws(ask("verify", code=1)) == {f"sha256/{path.name}": "its bytes are others"}
    assert not path.exists()


def test_verify_during_a_build_neither_waits_nor_reports_its_files(sound: Stocked, ask: Ask) -> None:
    with sound.blobs.in_use(alone=False, waiting=pytest.fail, stopped=lambda: False):
        path = sound.orphan(b"of a build that writes its row in a moment")
        answer = ask("verify")
    assert [note["what"] for note in answer["notes"]] == ["not looked for: the cache is in use"]
    assert path.exists()


def test_verify_reports_a_damaged_ledger(sound: Stocked, read: Read) -> None:
    path = sound.cache / "ledger.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    _, stderr = read("verify", code=1)
    assert "the ledger cannot be used" in stderr
    assert "remove it" in stderr


def test_verify_reports_and_deletes_a_damaged_row(sound: Stocked, ask: Ask) -> None:
    """A build does not trust it either: it builds the layer again, and reports why."""
    sound.sql("UPDATE layers SET blobs = replace(blobs, '\"zstd\"', '\"none\"') WHERE name = 'app/app'")
    sound.sql("UPDATE wheels SET sha256 = ?", "0" * 64)
    answer = ask("verify", code=1)
    assert flaws(answer) == {
        "app/app": "its row in the ledger is damaged",
        "a row of `wheels` in the ledger": "it is damaged",
    }
    assert all(flaw["then"].startswith("removed; ") for flaw in answer["flaws"])
    assert sound.sql("SELECT name FROM layers") == [("base/image",)]
    assert sound.sql("SELECT COUNT(*) FROM wheels") == [(0,)]
    assert sound.tombstones() == {"app/app": "row damaged, found by verify"}
    again = ask("verify")
    assert [note["what"] for note in again["notes"]] == ["a blob of no layer (11 B)"]


def test_verify_reports_an_inconsistent_ledger(sound: Stocked, ask: Ask) -> None:
    for old, new in (("digest TEXT NOT NULL", "digest TEXT"), ("digest TEXT", "digest TEXT NOT NULL")):
        with closing(sqlite3.connect(sound.cache / "ledger.sqlite")) as db, db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'builds'", (old, new))
        if new == "digest TEXT":
            sound.sql("INSERT INTO builds VALUES (1, 's', 'i', NULL, 0, 0, '{}', '')")
    answer = ask("verify", code=1)
    assert flaws(answer) == {"ledger": "NULL value in builds.digest"}


def read_one(stocked: Stocked, data: bytes) -> dict[str, str]:
    """Read one blob; what is wrong with it."""
    found = [one for one in scan_cache_folder(stocked.cache).blobs if one.hex == stocked.blob(data).name]
    assert len(found) == 1
    reader = CacheFileVerifier(stocked.cache, lambda _done: None, threading.Event())
    reader.verify(found)
    return {Path(path).name: what for path, what in reader.damaged.items()}


@pytest.mark.parametrize("trouble", [None, OSError(errno.EIO, "so it is")])
@pytest.mark.parametrize("mended", [True, False])
def test_verify_ignores_files_removed_or_replaced_meanwhile(
    sound: Stocked, monkeypatch: pytest.MonkeyPatch, trouble: OSError | None, mended: bool
) -> None:
    path = sound.blob(b"application")
    path.write_bytes(b"damaged")

    def meanwhile(self: object, handle: int) -> str:
        path.rename(path.with_name("old"))
        if mended:
            path.write_bytes(b"application")
        if trouble is not None:
            raise trouble
        return "0" * 64

    monkeypatch.setattr(CacheFileVerifier, "_hash", meanwhile)
    assert read_one(sound, b"application") == {}
    assert path.exists() is mended


@pytest.mark.parametrize(("number", "stays"), [(errno.EACCES, True), (errno.EIO, False)])
def test_verify_treats_an_io_error_as_damage(
    sound: Stocked, monkeypatch: pytest.MonkeyPatch, number: int, stays: bool
) -> None:
    def refuse(self: object, handle: int) -> str:
        raise OSError(number, "so it is")

    monkeypatch.setattr(CacheFileVerifier, "_hash", refuse)
    path = sound.blob(b"application")
    assert read_one(sound, b"application") == {path.name: "cannot be read: so it is"}
    assert path.exists() is stays


def test_verify_reports_an_unopenable_file_and_keeps_it(sound: Stocked) -> None:
    path = sound.blob(b"application")
    path.unlink()
    path.symlink_to(path.name)
    assert read_one(sound, b"application") == {path.name: "cannot be read: Too many levels of symbolic links"}
    assert path.is_symlink()


def test_verify_stops_when_interrupted(sound: Stocked) -> None:
    stop = threading.Event()
    with pytest.raises(Interrupted):
        CacheFileVerifier(sound.cache, lambda _done: stop.set(), stop).verify(scan_cache_folder(sound.cache).blobs)


def interrupt_after_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C as soon as a damaged file was removed."""
    real, pressed, damaged = CacheFileVerifier._hash, threading.Lock(), path.stat()

    def hash_or_wait(self: Any, handle: int) -> str:
        if os.path.samestat(os.fstat(handle), damaged):
            return real(self, handle)
        while path.exists():
            time.sleep(0.001)
        if pressed.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGINT)
        self._stop.wait(60)
        return real(self, handle)

    monkeypatch.setattr(CacheFileVerifier, "_hash", hash_or_wait)


def test_interrupted_verify_records_and_reports_deletions(
    sound: Stocked, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sound.blob(b"application")
    path.write_bytes(b"an application of others")
    with monkeypatch.context() as patch:
        interrupt_after_damage(path, patch)
        answer = ask("verify", code=130)
    assert not path.exists()
    assert flaws(answer) == {"app/app": "its bytes are others"}
    assert (answer["ok"], answer["complete"], answer["files"]) == (False, False, 1)
    assert sound.tombstones() == {"app/app": "damaged, found by verify"}
    assert (ask("verify")["ok"], ask("verify")["complete"]) == (True, True)


def test_interrupted_verify_reports_how_much_it_read(
    sound: Stocked, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sound.blob(b"application")
    path.write_bytes(b"an application of others")
    interrupt_after_damage(path, monkeypatch)
    out, stderr = read("verify", code=130)
    assert "1 of 5 files read (24 B) in " in out
    assert out.endswith(": 1 damaged or missing\n")
    assert "app/app" in out
    assert stderr.endswith("interrupted\n")


def test_rebuilt_layer_is_no_longer_reported(sound: Stocked, ask: Ask) -> None:
    path = sound.blob(b"application")
    path.write_bytes(b"x")
    ask("verify", code=1)
    sound.layer("app/app", b"application")
    assert sound.tombstones() == {}
    assert ask("verify")["ok"]
