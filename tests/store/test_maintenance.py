"""Maintenance of the ledger: typed rows, tombstones, and when rows are deleted."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from buildkit.digest import DiffId, Digest, FileHash, Key
from buildkit.errors import BuildError
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.store.build_history import find_recipe
from buildkit.store.damaged_rows import DamagedRow
from buildkit.store.ledger import Ledger
from buildkit.store.maintenance import LedgerMaintenance, RetainedRows
from buildkit.store.tables.files import StatKey
from tests.ledgers import LayerId, update_checksums

DAY = 86400.0
A, B, C = Key.of(b"a"), Key.of(b"b"), Key.of(b"c")
BLOB = Blob(digest=Digest.of(b"1"), diff_id=DiffId.of(b"2"), size=3, unpacked=4, compression=Compression.ZSTD)
NOTHING = RetainedRows(present=(), needed=(), checked=(), downloads=(), files=())


@pytest.fixture
def maintenance(ledger: Ledger) -> LedgerMaintenance:
    return LedgerMaintenance(ledger)


def add(ledger: Ledger, key: Key, name: str = "s/x", *, days: float = 0) -> None:
    ledger.add_layer(LayerId(key, "files", name, f'{{"name":"{name}"}}'), LayerResult(blobs=(BLOB,), seconds=2.5), [])
    ledger.database.execute("UPDATE layers SET used = ? WHERE key = ?", (time.time() - days * DAY, key.hex))


def test_rows_are_returned_as_typed_values(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    add(ledger, A)
    add(ledger, A)
    ledger.wheels.add(B, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    ledger.downloads.add(FileHash.of(b"y"), "y.whl", 9, 4.0)
    (layer,), (wheel,), (download,) = ledger.layers.all(), ledger.wheels.all(), ledger.downloads.all()
    assert (layer.key, layer.kind, layer.name, layer.blobs, layer.seconds, layer.times, layer.unpacked) == (
        A, "files", "s/x", (BLOB,), 2.5, 2, 4,
    )  # fmt: skip
    assert (wheel.key, wheel.file, wheel.sha256, wheel.seconds) == (B, "x.whl", FileHash.of(b"x"), 3.0)
    assert (download.sha256, download.name, download.size, download.seconds) == (FileHash.of(b"y"), "y.whl", 9, 4.0)


def test_recipe_is_found_by_key_unless_altered(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    layer, wheel = Key.of(b'{"name":"s/x"}'), Key.of(b"{}")
    add(ledger, layer)
    add(ledger, A)  # whose recipe would have another key
    ledger.wheels.add(wheel, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    found = [find_recipe(ledger, key.hex) for key in (layer, wheel, A, C)]
    assert found == [("s/x", '{"name":"s/x"}'), ("", "{}"), None, None]


@pytest.mark.parametrize("table", ["layers", "wheels", "downloads"])
def test_unreadable_rows_are_reported_with_a_hint(ledger: Ledger, maintenance: LedgerMaintenance, table: str) -> None:
    add(ledger, A)
    ledger.wheels.add(B, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    ledger.downloads.add(FileHash.of(b"y"), "y.whl", 9, 4.0)
    ledger.database.execute(f"UPDATE {table} SET used = x'00'")
    with pytest.raises(BuildError, match="the ledger cannot be used") as caught:
        _ = ledger.layers.all(), ledger.wheels.all(), ledger.downloads.all()
    assert "remove it" in caught.value.hint


@pytest.mark.parametrize("change", ["blobs = 'x'", "blobs = '[[]]'", "seconds = 'x'", "sum = x'ff'", "key = 'no key'"])
def test_damaged_layer_rows_are_absent_and_get_tombstones_when_deleted(
    ledger: Ledger, maintenance: LedgerMaintenance, change: str
) -> None:
    add(ledger, A)
    add(ledger, B, "s/y")
    assert maintenance.delete_damaged_rows() == ()
    ledger.database.execute(f"UPDATE layers SET {change} WHERE key = ?", (A.hex,))
    assert [row.key for row in ledger.layers.all()] == [B]
    key = None if change.startswith("key") else A
    assert maintenance.delete_damaged_rows() == (DamagedRow(table="layers", name="s/x", key=key),)
    assert ledger.database.select_one("SELECT group_concat(key) FROM layers") == (B.hex,)
    assert {key: tombstone.why for key, tombstone in ledger.tombstones.all().items()} == (
        {key: "row damaged, found by verify"} if key else {}
    )
    assert maintenance.delete_damaged_rows() == ()


def test_damaged_rows_of_every_summed_table_are_deleted(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    ledger.wheels.add(B, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    for number in (1, 2):
        ledger.files.add(StatKey(1, number, 1, 2, 3), FileHash.of(b"f"), 5)
    for number in (1, 2, 3):
        ledger.database.execute("INSERT INTO starts VALUES (?, '[]', 0, '')", (str(number),))
    ledger.database.execute("UPDATE wheels SET sha256 = ?", (A.hex,))
    ledger.database.execute("UPDATE files SET hashed_ns = 6 WHERE inode = 2")
    assert [one.table for one in maintenance.delete_damaged_rows()] == ["wheels", "files", "starts", "starts", "starts"]
    counts = "SELECT (SELECT COUNT(*) FROM wheels), (SELECT COUNT(*) FROM files), (SELECT COUNT(*) FROM starts)"
    assert ledger.database.select_one(counts) == (0, 1, 0)


def test_prune_deletes_rows_with_damaged_keys(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    add(ledger, A, days=181)
    ledger.downloads.add(FileHash.of(b"x"), "n", 1, 1.0)
    ledger.collision_checks.add(B)
    ledger.database.execute("UPDATE layers SET key = 'no key'")
    ledger.database.execute("UPDATE downloads SET sha256 = 'no hash', used = 0")
    ledger.database.execute("UPDATE checked SET key = 'no key'")
    counts = maintenance.prune(NOTHING, time.time())
    assert (counts["layers"], counts["downloads"], counts["checked"]) == (1, 1, 1)


def test_tombstones_are_on_the_disk_and_end_when_the_layer_is_built(
    ledger: Ledger, maintenance: LedgerMaintenance
) -> None:
    add(ledger, A)
    maintenance.record_tombstones([(A, "s/x"), (B, "s/y")], "evicted")
    wal = Path(f"{ledger.database.path}-wal")
    with closing(sqlite3.connect(f"file:{ledger.database.path}?immutable=1", uri=True)) as raw:
        assert len(raw.execute("SELECT * FROM tombstones").fetchall()) == 2, wal.stat().st_size
    assert {key: tombstone.why for key, tombstone in ledger.tombstones.all().items()} == {A: "evicted", B: "evicted"}
    add(ledger, A)
    assert list(ledger.tombstones.all()) == [B]


def test_prune_deletes_layers_and_wheels_unused_for_half_a_year(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    add(ledger, A, days=181)
    add(ledger, B, days=179)
    ledger.wheels.add(C, "{}", "x.whl", FileHash.of(b"x"), 3.0)
    ledger.database.execute("UPDATE wheels SET used = ?", (time.time() - 181 * DAY,))
    assert maintenance.prune(NOTHING, time.time())["layers"] == 1
    assert [row.key for row in ledger.layers.all()] == [B]
    assert ledger.wheels.all() == ()


def test_prune_keeps_present_and_needed_layers(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    add(ledger, A, days=1000)
    add(ledger, B, days=1000)
    still = RetainedRows(present=(A,), needed=(B,), checked=(), downloads=(), files=())
    assert maintenance.prune(still, time.time())["layers"] == 0


def test_prune_keeps_tombstones_of_absent_layers_with_rows(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    for key in (A, B):
        add(ledger, key)
    maintenance.record_tombstones([(A, "a"), (B, "b"), (C, "c")], "evicted")
    ledger.database.execute("UPDATE tombstones SET at = ?", (time.time() - 181 * DAY,))
    update_checksums(ledger.database.path)
    still = RetainedRows(present=(A,), needed=(), checked=(), downloads=(), files=())
    assert maintenance.prune(still, time.time())["tombstones"] == 2
    assert list(ledger.tombstones.all()) == [B], "A is there again, of C nothing is known"


def test_last_tombstone_of_a_layer_counts(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    maintenance.record_tombstones([(A, "a")], "shared, somewhere")
    maintenance.record_tombstones([(A, "a")], "evicted")
    assert {key: tombstone.why for key, tombstone in ledger.tombstones.all().items()} == {A: "evicted"}


def test_prune_deletes_downloads_that_are_gone(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    for name in (b"x", b"y"):
        ledger.downloads.add(FileHash.of(name), "n", 1, 1.0)
    ledger.database.execute("UPDATE downloads SET used = ?", (time.time() - 181 * DAY,))
    still = RetainedRows(present=(), needed=(), checked=(), downloads=(FileHash.of(b"x"),), files=())
    assert maintenance.prune(still, time.time())["downloads"] == 1
    assert [row.sha256 for row in ledger.downloads.all()] == [FileHash.of(b"x")]


def test_prune_deletes_old_file_hashes_unless_retained(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    now = time.time()
    old, kept, new = (StatKey((1 << 64) - 1, number, 1, 2, 3) for number in ((1 << 64) - 9, (1 << 64) - 8, 7))
    for stat, days in ((old, 91), (kept, 91), (new, 89)):
        ledger.files.add(stat, FileHash.of(b"f"), int((now - days * DAY) * 1e9))
    still = RetainedRows(present=(), needed=(), checked=(), downloads=(), files=(kept,))
    assert maintenance.prune(still, now)["files"] == 1
    assert [ledger.files.find(stat) is not None for stat in (old, kept, new)] == [False, True, True]


def test_prune_keeps_the_last_builds_of_each_image(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    columns = "(id, stage, image, digest, started, seconds, report)"
    for number in range(1, 206):
        ledger.database.execute(f"INSERT INTO builds {columns} VALUES (?, 's', 'i', 'd', 0, 0, '{{}}')", (number,))
    ledger.database.execute(f"INSERT INTO builds {columns} VALUES (999, 's', 'of another project', 'd', 0, 0, '{{}}')")
    assert maintenance.prune(NOTHING, time.time())["builds"] == 5
    assert ledger.database.select_one("SELECT MIN(id), COUNT(*) FROM builds") == (6, 201)


def test_prune_deletes_collision_checks_of_unknown_sets(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    ledger.collision_checks.add(A)
    ledger.collision_checks.add(B)
    still = RetainedRows(present=(), needed=(), checked=(B,), downloads=(), files=())
    assert maintenance.prune(still, time.time())["checked"] == 1
    assert (ledger.collision_checks.has(A), ledger.collision_checks.has(B)) == (False, True)


def test_prune_reclaims_disk_space(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    ledger.database.execute("CREATE TABLE waste (x)")
    ledger.database.execute("INSERT INTO waste VALUES (zeroblob(4000000))")
    ledger.database.execute("DROP TABLE waste")
    maintenance.prune(NOTHING, time.time())
    assert ledger.database.path.stat().st_size < 200_000
    assert Path(f"{ledger.database.path}-wal").stat().st_size == 0


def test_ledger_opened_alone_excludes_others_and_needs_no_index_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with closing(Ledger(path, alone=True)) as ledger:
        ledger.collision_checks.add(A)
        assert not Path(f"{path}-shm").exists()
        with (
            closing(sqlite3.connect(path, timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("SELECT * FROM layers")
    with closing(Ledger(path)) as ledger:
        assert ledger.collision_checks.has(A)


def test_find_corruption_finds_nothing_in_an_intact_file(ledger: Ledger) -> None:
    assert ledger.database.find_corruption() == ()


def test_uses_of_a_layer_are_latest_first(ledger: Ledger, maintenance: LedgerMaintenance) -> None:
    for number, source in ((1.0, "built"), (2.0, "cache")):
        layer = f'{{"key":"{A}","name":"n","source":"{source}","why":"w"}}'
        ledger.database.put("builds", ("s", "i", "d", number, 0.0, f'{{"layers":[{layer}]}}'))
    assert [(part.image, part.started, part.source, part.why) for part in ledger.builds.uses_of(A)] == [
        ("i", 2.0, "cache", "w"),
        ("i", 1.0, "built", "w"),
    ]
    assert ledger.builds.uses_of(B) == ()
