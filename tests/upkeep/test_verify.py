"""verify on a made-up cache: every kind of damage is found, dropped and said; what a build is about is left alone."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from buildkit.cache import reading
from buildkit.cache.inventory import take_inventory
from buildkit.errors import Interrupted
from tests.upkeep.stocked import Stocked

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


def test_all_is_well(sound: Stocked, ask: Ask, read: Read) -> None:
    answer = ask("verify")
    assert (answer["ok"], answer["files"], answer["size"], answer["flaws"], answer["notes"]) == (True, 5, 41, [], [])
    out, said = read("verify")
    assert out.startswith("5 files read (41 B) in ")
    assert out.endswith(": nothing is damaged or missing\n")
    assert "blobs and downloads  41 B" in said


@pytest.mark.parametrize("data", [b"applicatiom", b"applic", b"", b"application and more"])
def test_a_blob_that_is_damaged_is_dropped_and_remembered(sound: Stocked, ask: Ask, data: bytes) -> None:
    path = sound.blob(b"application")
    path.write_bytes(data)
    answer = ask("verify", code=1)
    assert flaws(answer) == {"app/app": "its bytes are others"}
    assert "removed" in answer["flaws"][0]["then"]
    assert not path.exists()
    assert sound.tombstones() == {"app/app": "damaged, found by verify"}
    assert ask("verify")["ok"], "what is known is not wrong any more"


def test_damage_names_everything_that_has_it(stocked: Stocked, ask: Ask) -> None:
    stocked.layer("a/x", b"shared", b"mine")
    stocked.layer("b/x", b"shared")
    stocked.blob(b"shared").write_bytes(b"shored")
    assert flaws(ask("verify", code=1)) == {"a/x, b/x": "its bytes are others"}
    assert set(stocked.tombstones()) == {"a/x", "b/x"}


def test_downloads_and_compiled_wheels_are_read_too(sound: Stocked, ask: Ask) -> None:
    for path in sound.cache.glob("files/*/*"):
        path.write_bytes(b"other")
    answer = ask("verify", code=1)
    assert len(answer["flaws"]) == 2
    assert "fast-1.0-py3-none-any.whl" in flaws(answer)
    assert sound.tombstones() == {"fast-1.0-py3-none-any.whl": "damaged, found by verify"}
    assert not list(sound.cache.glob("files/*/*"))


def test_a_row_without_its_blob_is_missing_unless_it_is_known_why(sound: Stocked, ask: Ask) -> None:
    evicted = sound.layer("app/old", b"old")
    ask("gc")
    assert str(evicted) in str(ask("ls"))
    sound.blob(b"python").unlink()
    assert flaws(ask("verify", code=1)) == {"base/image": "it is not in the cache"}
    assert sound.tombstones()["base/image"] == "missing, found by verify"
    assert ask("verify")["ok"]


def test_a_blob_of_no_row_and_what_a_dead_build_left_are_said_and_left_for_gc(sound: Stocked, ask: Ask) -> None:
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


def test_an_orphan_that_is_damaged_goes_as_well(sound: Stocked, ask: Ask) -> None:
    path = sound.orphan(b"orphan")
    path.write_bytes(b"nahpro")
    assert flaws(ask("verify", code=1)) == {f"sha256/{path.name}": "its bytes are others"}
    assert not path.exists()


def test_while_a_build_runs_nobody_waits_and_nothing_of_it_is_misreported(sound: Stocked, ask: Ask) -> None:
    with sound.blobs.in_use(alone=False, waiting=pytest.fail, stopped=lambda: False):
        path = sound.orphan(b"of a build that writes its row in a moment")
        answer = ask("verify")
    assert [note["what"] for note in answer["notes"]] == ["not looked for: builds are under way"]
    assert path.exists()


def test_a_damaged_ledger_is_said(sound: Stocked, read: Read) -> None:
    path = sound.cache / "ledger.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    _, said = read("verify", code=1)
    assert "the ledger cannot be used" in said
    assert "remove it" in said


def test_a_ledger_that_contradicts_itself_is_said(sound: Stocked, ask: Ask) -> None:
    for old, new in (("digest TEXT NOT NULL", "digest TEXT"), ("digest TEXT", "digest TEXT NOT NULL")):
        with closing(sqlite3.connect(sound.cache / "ledger.sqlite")) as db, db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'builds'", (old, new))
        if new == "digest TEXT":
            sound.sql("INSERT INTO builds VALUES (1, 's', 'i', NULL, 0, 0, '{}')")
    answer = ask("verify", code=1)
    assert flaws(answer) == {"ledger": "NULL value in builds.digest"}


def test_a_file_that_a_build_replaced_meanwhile_stays(sound: Stocked, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sound.blob(b"application")
    path.write_bytes(b"damaged")

    def mend(self: object, handle: int) -> str:
        new = path.with_name("new")
        new.write_bytes(b"application")
        new.replace(path)
        return "0" * 64

    monkeypatch.setattr(reading._Reader, "_hash", mend)
    found = [one for one in take_inventory(sound.cache).blobs if one.hex == path.name]
    assert reading.read_again(sound.cache, found, lambda _done: None, threading.Event()) == {}
    assert path.read_bytes() == b"application"


@pytest.mark.parametrize(("number", "stays"), [(errno.EACCES, True), (errno.EIO, False)])
def test_a_file_that_cannot_be_read_is_damaged_if_it_is_the_disks_fault(
    sound: Stocked, monkeypatch: pytest.MonkeyPatch, number: int, stays: bool
) -> None:
    def refuse(self: object, handle: int) -> str:
        raise OSError(number, "so it is")

    monkeypatch.setattr(reading._Reader, "_hash", refuse)
    found = [one for one in take_inventory(sound.cache).blobs if one.hex == sound.blob(b"application").name]
    assert reading.read_again(sound.cache, found, lambda _done: None, threading.Event()) == {
        found[0].path: "cannot be read: so it is"
    }
    assert sound.blob(b"application").exists() is stays


def test_reading_stops_when_it_is_asked_to(sound: Stocked) -> None:
    stop = threading.Event()
    with pytest.raises(Interrupted):
        reading.read_again(sound.cache, take_inventory(sound.cache).blobs, lambda _done: stop.set(), stop)


def test_a_key_that_was_found_damaged_is_made_again_and_then_fine(sound: Stocked, ask: Ask) -> None:
    path = sound.blob(b"application")
    path.write_bytes(b"x")
    ask("verify", code=1)
    sound.layer("app/app", b"application")
    assert sound.tombstones() == {}
    assert ask("verify")["ok"]
