"""The ledger for upkeep: rows as values, tombstones, and what is forgotten when."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from buildkit.digest import DiffId, Digest, FileHash, Key
from buildkit.errors import BuildError
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.store.ledger import Ledger, StatKey
from buildkit.store.maintenance import Dropped, LedgerMaintenance, Still
from tests.ledgers import believe

DAY = 86400.0
A, B, C = Key.of(b"a"), Key.of(b"b"), Key.of(b"c")
BLOB = Blob(digest=Digest.of(b"1"), diff_id=DiffId.of(b"2"), size=3, unpacked=4, compression=Compression.ZSTD)
NOTHING = Still(present=(), needed=(), checked=(), downloads=(), files=())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as made:
        yield made


@pytest.fixture
def stock(ledger: Ledger) -> LedgerMaintenance:
    return LedgerMaintenance(ledger)


def add(ledger: Ledger, key: Key, name: str = "s/x", *, days: float = 0) -> None:
    ledger.add(key, "files", name, f'{{"name":"{name}"}}', LayerResult(blobs=(BLOB,), seconds=2.5), [])
    ledger.write("UPDATE layers SET used = ? WHERE key = ?", (time.time() - days * DAY, key.hex))


def test_rows_are_values(ledger: Ledger, stock: LedgerMaintenance) -> None:
    add(ledger, A)
    add(ledger, A)
    ledger.add_wheel(B, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    ledger.add_download(FileHash.of(b"y"), "y.whl", 9, 4.0)
    (layer,), (wheel,), (download,) = stock.layers(), stock.wheels(), stock.downloads()
    assert (layer.key, layer.kind, layer.name, layer.blobs, layer.seconds, layer.times, layer.unpacked) == (
        A, "files", "s/x", (BLOB,), 2.5, 2, 4,
    )  # fmt: skip
    assert (wheel.key, wheel.file, wheel.sha256, wheel.seconds) == (B, "x.whl", FileHash.of(b"x"), 3.0)
    assert (download.sha256, download.name, download.size, download.seconds) == (FileHash.of(b"y"), "y.whl", 9, 4.0)


def test_a_recipe_is_found_by_its_key_unless_it_was_altered(ledger: Ledger, stock: LedgerMaintenance) -> None:
    layer, wheel = Key.of(b'{"name":"s/x"}'), Key.of(b"{}")
    add(ledger, layer)
    add(ledger, A)  # whose recipe would have another key
    ledger.add_wheel(wheel, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    assert [stock.recipe(key) for key in (layer, wheel, A, C)] == ['{"name":"s/x"}', "{}", "", ""]


@pytest.mark.parametrize("table", ["layers", "wheels", "downloads"])
def test_rows_that_cannot_be_read_are_said_with_what_to_do(
    ledger: Ledger, stock: LedgerMaintenance, table: str
) -> None:
    add(ledger, A)
    ledger.add_wheel(B, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    ledger.add_download(FileHash.of(b"y"), "y.whl", 9, 4.0)
    ledger.write(f"UPDATE {table} SET used = x'00'")
    with pytest.raises(BuildError, match="the ledger cannot be used") as caught:
        _ = stock.layers(), stock.wheels(), stock.downloads()
    assert "remove it" in caught.value.hint


@pytest.mark.parametrize("change", ["blobs = 'x'", "blobs = '[[]]'", "seconds = 'x'", "sum = x'ff'", "key = 'no key'"])
def test_rows_that_were_damaged_are_none_until_they_are_removed(
    ledger: Ledger, stock: LedgerMaintenance, change: str
) -> None:
    add(ledger, A)
    add(ledger, B, "s/y")
    assert stock.drop_damaged() == ()
    ledger.write(f"UPDATE layers SET {change} WHERE key = ?", (A.hex,))
    assert [row.key for row in stock.layers()] == [B]
    key = None if change.startswith("key") else A
    assert stock.drop_damaged() == (Dropped(table="layers", name="s/x", key=key),)
    assert ledger.one("SELECT group_concat(key) FROM layers") == (B.hex,)
    assert {key: stone.why for key, stone in stock.tombstones().items()} == (
        {key: "row damaged, found by verify"} if key else {}
    )
    assert stock.drop_damaged() == ()


def test_damaged_rows_of_every_table_that_is_believed_are_removed(ledger: Ledger, stock: LedgerMaintenance) -> None:
    ledger.add_wheel(B, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    for number in (1, 2):
        ledger.add_file(StatKey(1, number, 1, 2, 3), FileHash.of(b"f"), 5)
    for number in (1, 2, 3):
        ledger.write("INSERT INTO starts VALUES (?, '[]', 0, '')", (str(number),))
    ledger.write("UPDATE wheels SET sha256 = ?", (A.hex,))
    ledger.write("UPDATE files SET hashed_ns = 6 WHERE inode = 2")
    assert [one.table for one in stock.drop_damaged()] == ["wheels", "files", "starts", "starts", "starts"]
    counts = "SELECT (SELECT COUNT(*) FROM wheels), (SELECT COUNT(*) FROM files), (SELECT COUNT(*) FROM starts)"
    assert ledger.one(counts) == (0, 1, 0)


def test_tidying_does_not_stop_at_a_key_that_was_damaged(ledger: Ledger, stock: LedgerMaintenance) -> None:
    add(ledger, A, days=181)
    ledger.add_download(FileHash.of(b"x"), "n", 1, 1.0)
    ledger.add_checked(B)
    ledger.write("UPDATE layers SET key = 'no key'")
    ledger.write("UPDATE downloads SET sha256 = 'no hash', used = 0")
    ledger.write("UPDATE checked SET key = 'no key'")
    counts = stock.tidy(NOTHING, time.time())
    assert (counts["layers"], counts["downloads"], counts["checked"]) == (1, 1, 1)


def test_what_was_buried_is_on_the_disk_and_unsaid_when_it_is_made_again(
    ledger: Ledger, stock: LedgerMaintenance
) -> None:
    add(ledger, A)
    stock.record_tombstones([(A, "s/x"), (B, "s/y")], "evicted")
    wal = Path(f"{ledger._path}-wal")
    with closing(sqlite3.connect(f"file:{ledger._path}?immutable=1", uri=True)) as raw:  # without the log beside it
        assert len(raw.execute("SELECT * FROM tombstones").fetchall()) == 2, wal.stat().st_size
    assert {key: stone.why for key, stone in stock.tombstones().items()} == {A: "evicted", B: "evicted"}
    add(ledger, A)
    assert list(stock.tombstones()) == [B]


def test_layers_that_nobody_used_for_half_a_year_are_forgotten(ledger: Ledger, stock: LedgerMaintenance) -> None:
    add(ledger, A, days=181)
    add(ledger, B, days=179)
    ledger.add_wheel(C, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    ledger.write("UPDATE wheels SET used = ?", (time.time() - 181 * DAY,))
    assert stock.tidy(NOTHING, time.time())["layers"] == 1
    assert [row.key for row in stock.layers()] == [B]
    assert stock.wheels() == ()


def test_but_not_those_that_are_there_or_needed(ledger: Ledger, stock: LedgerMaintenance) -> None:
    add(ledger, A, days=1000)
    add(ledger, B, days=1000)
    still = Still(present=(A,), needed=(B,), checked=(), downloads=(), files=())
    assert stock.tidy(still, time.time())["layers"] == 0


def test_tombstones_stay_with_their_rows(ledger: Ledger, stock: LedgerMaintenance) -> None:
    for key in (A, B):
        add(ledger, key)
    stock.record_tombstones([(A, "a"), (B, "b"), (C, "c")], "evicted")
    ledger.write("UPDATE tombstones SET at = ?", (time.time() - 181 * DAY,))
    believe(ledger._path)
    still = Still(present=(A,), needed=(), checked=(), downloads=(), files=())
    assert stock.tidy(still, time.time())["tombstones"] == 2
    assert list(stock.tombstones()) == [B], "A is there again, of C nothing is known"


def test_what_was_said_last_of_a_layer_counts(stock: LedgerMaintenance) -> None:
    stock.record_tombstones([(A, "a")], "shared, somewhere")
    stock.record_tombstones([(A, "a")], "evicted")
    assert {key: stone.why for key, stone in stock.tombstones().items()} == {A: "evicted"}


def test_downloads_are_forgotten_when_they_are_gone(ledger: Ledger, stock: LedgerMaintenance) -> None:
    for name in (b"x", b"y"):
        ledger.add_download(FileHash.of(name), "n", 1, 1.0)
    ledger.write("UPDATE downloads SET used = ?", (time.time() - 181 * DAY,))
    still = Still(present=(), needed=(), checked=(), downloads=(FileHash.of(b"x"),), files=())
    assert stock.tidy(still, time.time())["downloads"] == 1
    assert [row.sha256 for row in stock.downloads()] == [FileHash.of(b"x")]


def test_hashes_of_files_are_forgotten_unless_the_checkout_has_them(ledger: Ledger, stock: LedgerMaintenance) -> None:
    now = time.time()
    old, kept, new = (StatKey((1 << 64) - 1, number, 1, 2, 3) for number in ((1 << 64) - 9, (1 << 64) - 8, 7))
    for stat, days in ((old, 91), (kept, 91), (new, 89)):
        ledger.add_file(stat, FileHash.of(b"f"), int((now - days * DAY) * 1e9))
    still = Still(present=(), needed=(), checked=(), downloads=(), files=(kept,))
    assert stock.tidy(still, now)["files"] == 1
    assert [ledger.find_file(stat) is not None for stat in (old, kept, new)] == [False, True, True]


def test_builds_are_kept_by_image_with_their_phases(ledger: Ledger, stock: LedgerMaintenance) -> None:
    columns = "(id, stage, image, digest, started, seconds, report)"
    for number in range(1, 206):
        ledger.write(f"INSERT INTO builds {columns} VALUES (?, 's', 'i', 'd', 0, 0, '{{}}')", (number,))
        ledger.write("INSERT INTO phases (build, name, seconds) VALUES (?, 'pack', 1.0)", (number,))
    ledger.write(f"INSERT INTO builds {columns} VALUES (999, 's', 'of another project', 'd', 0, 0, '{{}}')")
    assert stock.tidy(NOTHING, time.time())["builds"] == 5
    assert ledger.one("SELECT MIN(id), COUNT(*) FROM builds") == (6, 201)
    assert ledger.one("SELECT MIN(build), COUNT(*) FROM phases") == (6, 200)


def test_sets_of_layers_that_no_stage_has_are_forgotten(ledger: Ledger, stock: LedgerMaintenance) -> None:
    ledger.add_checked(A)
    ledger.add_checked(B)
    still = Still(present=(), needed=(), checked=(B,), downloads=(), files=())
    assert stock.tidy(still, time.time())["checked"] == 1
    assert (ledger.is_checked(A), ledger.is_checked(B)) == (False, True)


def test_room_is_given_back(ledger: Ledger, stock: LedgerMaintenance) -> None:
    ledger.write("CREATE TABLE waste (x)")
    ledger.write("INSERT INTO waste VALUES (zeroblob(4000000))")
    ledger.write("DROP TABLE waste")
    stock.tidy(NOTHING, time.time())
    assert ledger._path.stat().st_size < 200_000
    assert Path(f"{ledger._path}-wal").stat().st_size == 0


def test_who_is_alone_shuts_others_out_and_needs_no_file_to_share(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with closing(Ledger(path, alone=True)) as ledger:
        ledger.add_checked(A)
        assert not Path(f"{path}-shm").exists()
        with (
            closing(sqlite3.connect(path, timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("SELECT * FROM layers")
    with closing(Ledger(path)) as ledger:
        assert ledger.is_checked(A)


def test_a_sound_file_has_nothing_wrong(stock: LedgerMaintenance) -> None:
    assert stock.check() == ()


def test_parts_in_builds_come_latest_first(ledger: Ledger, stock: LedgerMaintenance) -> None:
    for number, source in ((1.0, "built"), (2.0, "cache")):
        layer = f'{{"key":"{A}","name":"n","source":"{source}","why":"w"}}'
        ledger.put("builds", ("s", "i", "d", number, 0.0, f'{{"layers":[{layer}]}}'))
    assert [(part.image, part.started, part.source, part.why) for part in stock.parts(A)] == [
        ("i", 2.0, "cache", "w"),
        ("i", 1.0, "built", "w"),
    ]
    assert stock.parts(B) == ()
