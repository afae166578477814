"""The ledger: records are found by threads and processes, migrated, and damage is reported."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from buildkit.digest import DiffId, Digest, FileHash, Key
from buildkit.errors import BuildError
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.store import database, schema
from buildkit.store.build_history import find_built, find_recipe
from buildkit.store.ledger import Ledger
from buildkit.store.ledger_key import ensure_ledger_key
from buildkit.store.schema import VERSION
from buildkit.store.tables.files import StatKey
from buildkit.store.tables.layers import pack_listing
from tests.ledgers import LayerId

KEY, OTHER = Key.of(b"a"), Key.of(b"b")
MADE = LayerResult(
    blobs=(
        Blob(digest=Digest.of(b"1"), diff_id=DiffId.of(b"2"), size=3, unpacked=4, compression=Compression.ZSTD),
        Blob(digest=Digest.of(b"5"), diff_id=DiffId.of(b"6"), size=7, unpacked=8, compression=Compression.NONE),
    ),
    seconds=1.5,
    config='{"Env":["A=1"]}',
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    made = Ledger(path)
    yield made
    made.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        with db:
            return db.execute(query).fetchall()
    finally:
        db.close()


def report(stage: str, *layers: tuple[str, Key], image: str = "i") -> dict[str, object]:
    lines = [{"name": name, "key": str(key)} for name, key in layers]
    return {"stage": stage, "image": image, "digest": "d", "seconds": 2.5, "layers": lines}


def test_added_layer_is_found_after_reopening(ledger: Ledger, path: Path) -> None:
    assert ledger.layers.find([KEY]) == {}
    ledger.add_layer(LayerId(KEY, "wheels", "w/x", '{"a":1}'), MADE, [("p/é", "h")])
    assert ledger.layers.find([KEY, OTHER]) == {KEY: MADE}
    ledger.close()
    again = Ledger(path)
    assert again.layers.find([KEY]) == {KEY: MADE}
    assert again.layers.contents(KEY) == [("p/é", "h")]
    assert again.layers.contents(OTHER) is None
    again.close()


def test_adding_a_layer_replaces_its_row_and_deletes_its_tombstone(ledger: Ledger, path: Path) -> None:
    ledger.database.put("tombstones", (KEY.hex, "n", "old", 0.0))
    ledger.add_layer(LayerId(KEY, "wheels", "w", "{}"), MADE, [])
    ledger.add_layer(LayerId(KEY, "wheels", "w", "{}"), LayerResult(blobs=()), [])
    assert ledger.layers.find([KEY]) == {KEY: LayerResult(blobs=())}
    assert rows(path, "SELECT * FROM tombstones") == []


def test_find_accepts_more_keys_than_a_query_may_have(ledger: Ledger) -> None:
    keys = [Key.of(str(number).encode()) for number in range(1201)]
    ledger.add_layer(LayerId(keys[0], "k", "n", "{}"), MADE, [])
    ledger.add_layer(LayerId(keys[-1], "k", "n", "{}"), MADE, [])
    assert set(ledger.layers.find(keys)) == {keys[0], keys[-1]}
    assert ledger.layers.find([]) == {}


def test_touch_updates_last_use_at_most_once_an_hour(ledger: Ledger, path: Path) -> None:
    for key in (KEY, OTHER):
        ledger.add_layer(LayerId(key, "k", "n", "{}"), MADE, [])
    rows(path, f"UPDATE layers SET used = 5 WHERE key = '{KEY.hex}'")
    recent = rows(path, f"SELECT used FROM layers WHERE key = '{OTHER.hex}'")
    ledger.layers.touch([KEY, OTHER])
    assert rows(path, f"SELECT used > 1000000000 FROM layers WHERE key = '{KEY.hex}'") == [(1,)]
    assert rows(path, f"SELECT used FROM layers WHERE key = '{OTHER.hex}'") == recent


def test_wheels_and_collision_checks_are_found_once_added(ledger: Ledger) -> None:
    assert ledger.wheels.find(KEY) is None
    ledger.wheels.add(KEY, "{}", "x.whl", FileHash.of(b"x"), 1.0)
    assert ledger.wheels.find(KEY) == ("x.whl", FileHash.of(b"x"))
    assert not ledger.collision_checks.has(KEY)
    ledger.collision_checks.add(KEY)
    ledger.collision_checks.add(KEY)
    assert ledger.collision_checks.has(KEY)
    assert not ledger.collision_checks.has(OTHER)


@pytest.mark.parametrize("field", ["device", "inode", "size", "mtime_ns", "ctime_ns"])
def test_file_is_known_only_if_its_whole_stat_matches(ledger: Ledger, field: str) -> None:
    stat = {"device": 1, "inode": (1 << 64) - 1, "size": 3, "mtime_ns": 4, "ctime_ns": 5}
    ledger.files.add(StatKey(**stat), FileHash.of(b"x"), 9)
    assert ledger.files.find(StatKey(**stat)) == (FileHash.of(b"x"), 9)
    assert ledger.files.find(StatKey(**{**stat, field: 77})) is None


def test_last_recipes_are_those_of_the_last_build_of_the_image(ledger: Ledger, path: Path) -> None:
    assert ledger.last_recipes("s", "i") == {}
    ledger.add_layer(LayerId(KEY, "k", "n", "a"), MADE, [])
    ledger.add_layer(LayerId(OTHER, "k", "n", "b"), MADE, [])
    ledger.builds.add(report("s", ("a", KEY)), 1.0)
    ledger.builds.add(report("other", ("a", KEY)), 2.0)
    ledger.builds.add(report("s", ("a", OTHER), ("gone", Key.of(b"c"))), 3.0)
    ledger.builds.add(report("s", ("a", KEY)) | {"image": "of another project"}, 4.0)
    assert ledger.last_recipes("s", "i") == {"a": "b"}
    assert ledger.last_recipes("s", "of another project") == {"a": "a"}
    ledger.builds.add(report("s", ("a", KEY), image="another project's"), 4.0)
    ledger.builds.add(report("s", ("a", KEY)) | {"image": "of another project"}, 4.0)
    assert ledger.last_recipes("s", "i") == {"a": "b"}
    assert ledger.last_recipes("s", "of another project") == {"a": "a"}
    assert rows(path, "SELECT stage, started, seconds FROM builds WHERE id = 2") == [("other", 2.0, 2.5)]


def test_newer_schema_is_refused_and_left_unchanged(path: Path) -> None:
    Ledger(path).close()
    rows(path, f"PRAGMA user_version = {VERSION + 1}")
    message = rf"written by a newer buildkit \(schema {VERSION + 1}, this one supports {VERSION}\)"
    with pytest.raises(BuildError, match=message) as caught:
        Ledger(path)
    assert "BUILDKIT_CACHE" in caught.value.hint
    assert rows(path, "PRAGMA user_version") == [(VERSION + 1,)]


def shape(path: Path) -> dict[object, list[tuple[object, ...]]]:
    tables = [name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: rows(path, f"PRAGMA table_info({name})") for name in tables}


FIRST_ROWS = f"""
INSERT INTO layers (key, kind, name, recipe, blobs, env, contents, seconds, built, used) VALUES
  ('{KEY.hex}', 'files', 'n', 'a', '[]', '[]', x'', 1.5, 2, 3);
INSERT INTO wheels VALUES ('{OTHER.hex}', 'b', 'x.whl', '{FileHash.of(b"x").hex}', 2, 2, 3);
INSERT INTO files VALUES (1, 2, 3, 4, 5, '{FileHash.of(b"y").hex}', 9);
INSERT INTO builds VALUES (NULL, 's', 'i', 'd', 1, 1, '{{"layers":[{{"key":"sha256:{KEY.hex}","name":"n"}}]}}');
"""


@pytest.mark.parametrize("version", range(1, VERSION))
def test_every_older_schema_is_migrated_with_its_rows(
    path: Path, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(tmp_path / "new.key"))  # none of a version before 6 had one
    with closing(sqlite3.connect(path)) as db, db:
        db.create_function("sum_of", -1, database.plain_sum_of)
        if version >= 7:
            db.create_function("keyed_sum_of", -1, ensure_ledger_key().sum_of)
        for step in schema.MIGRATIONS[: min(version, 4)]:
            db.executescript(step)
        db.executescript(FIRST_ROWS)
        for step in schema.MIGRATIONS[4:version]:
            db.executescript(step)
        db.execute(f"PRAGMA user_version = {version}")
    with closing(Ledger(path)) as ledger:
        assert ledger.layers.find([KEY]) == {KEY: LayerResult(blobs=(), seconds=1.5)}
        assert ledger.wheels.find(OTHER) == ("x.whl", FileHash.of(b"x"))
        assert ledger.files.find(StatKey(1, 2, 3, 4, 5)) == (FileHash.of(b"y"), 9)
        assert ledger.last_recipes("s", "i") == {"n": "a"}
        ledger.add_layer(LayerId(OTHER, "k", "n", "b"), MADE, [])
        assert ledger.layers.find([OTHER]) == {OTHER: MADE}
    Ledger(tmp_path / "new.sqlite").close()
    assert shape(path) == shape(tmp_path / "new.sqlite")
    assert rows(path, "PRAGMA user_version") == [(VERSION,)]


def test_migration_trusts_no_row_that_could_have_been_written_after_the_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write to the ledger can also set its version back, to have sums without a key believed."""
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(path.with_name("new.key")))
    db = sqlite3.connect(path)
    db.executescript("PRAGMA journal_mode = WAL;" + "".join(schema.MIGRATIONS[:4]) + "PRAGMA user_version = 4;")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    time.sleep(0.02)  # longer than a tick of the file system's clock
    made = ensure_ledger_key().made_ns
    db.executescript(FIRST_ROWS)
    db.execute("INSERT INTO checked VALUES (?)", (KEY.hex,))
    db.commit()
    assert path.stat().st_ctime_ns < made, "what was added lies in the log alone"
    with closing(db), closing(Ledger(path)) as ledger:
        assert not ledger.collision_checks.has(KEY)
        assert ledger.layers.find([KEY]) == {}
        assert ledger.wheels.find(OTHER) is None
        assert ledger.files.find(StatKey(1, 2, 3, 4, 5)) is None
        assert ledger.last_recipes("s", "i") == {}


def test_rows_of_another_key_or_table_count_as_absent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.add_layer(LayerId(KEY, "k", "n", "{}"), MADE, [("p", "h")])
        ledger.verdicts.add(FileHash.of(b"x"), "r", "{}", 1.0)
        ledger.collision_checks.add(KEY)
        ledger.checksums.add(FileHash.of(b"x"), FileHash.of(b"y").hex)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(
                "INSERT INTO remote (repository, digest, seen, sum) SELECT sha256, sha512, '', sum FROM checksums"
            )
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(path.with_name("another.key")))
    with closing(Ledger(path)) as ledger:
        assert ledger.layers.find([KEY]) == {}
        assert ledger.layers.contents(KEY) is None
        assert ledger.verdicts.find([FileHash.of(b"x")], "r") == []
        assert ledger.checksums.find(FileHash.of(b"x")) == ""
        assert not ledger.collision_checks.has(KEY)
        ledger.add_layer(LayerId(KEY, "k", "n", "{}"), MADE, [("p", "h")])
        assert ledger.layers.find([KEY]) == {KEY: MADE}


def test_migration_trusts_no_damaged_row(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for step in schema.MIGRATIONS[:4]:
            db.executescript(step)
        for key, total in ((KEY, "0" * 16), (OTHER, FileHash.of(f"{OTHER.hex}\0[]\0[]".encode()).hex[:16])):
            db.execute("INSERT INTO layers (key, kind, name, recipe, blobs, env, contents, seconds, built, used, sum) "
                       "VALUES (?, 'files', 'n', 'a', '[]', '[]', x'', 1.5, 2, 3, ?)", (key.hex, total))  # fmt: skip
        db.execute("PRAGMA user_version = 4")
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(path.with_name("new.key")))
    with closing(Ledger(path)) as ledger:
        assert ledger.layers.find([KEY, OTHER]) == {OTHER: LayerResult(blobs=(), seconds=1.5)}


def test_migration_by_a_newer_buildkit_meanwhile_is_not_undone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        database.Database, "_switch_to_wal", lambda _self: rows(path, f"PRAGMA user_version = {VERSION + 1}")
    )
    with pytest.raises(BuildError, match="written by a newer buildkit"):
        Ledger(path)
    assert rows(path, "PRAGMA user_version") == [(VERSION + 1,)]


@pytest.mark.parametrize(
    "data", [b"this is not a database, but long enough to look at" * 40, b"SQLite format 3\0" * 200]
)
def test_file_that_is_not_a_database_is_refused_with_a_hint(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(BuildError, match=r"ledger\.sqlite: the ledger cannot be used") as caught:
        Ledger(path)
    assert "remove it" in caught.value.hint


def test_damage_inside_the_file_is_reported_with_a_hint(path: Path) -> None:
    first = Ledger(path)
    first.add_layer(LayerId(KEY, "k", "n", "{}"), MADE, [("p", "h")] * 1000)
    first.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)  # the first page, with the schema, stays
    path.write_bytes(data)
    ledger = Ledger(path)
    layers = ledger.layers
    for ask in (lambda: layers.find([KEY]), lambda: layers.contents(KEY), lambda: layers.touch([KEY])):
        with pytest.raises(BuildError, match="the ledger cannot be used: database disk image is malformed"):
            ask()
    ledger.close()


@pytest.mark.parametrize("statement", ["ALTER TABLE layers DROP COLUMN blobs", "DROP TABLE layers"])
def test_missing_table_or_column_is_reported_with_a_hint(ledger: Ledger, path: Path, statement: str) -> None:
    rows(path, statement)
    with pytest.raises(BuildError, match="the ledger cannot be used: no such") as caught:
        ledger.layers.find([KEY])
    assert "remove it" in caught.value.hint


@pytest.mark.parametrize("change", [
    f"key = '{OTHER.hex}'", "kind = 'o'", "name = 'o'", "blobs = replace(blobs, '1', '2')", "blobs = 'no JSON'",
    "config = '[\"A=2\"]'", "config = x'ff'", "seconds = 1.75", "seconds = 'x'", "times = 7", "built = built + 1",
    "claims = '[\"q\"]'", "sum = ''", "sum = 'x'", "sum = '', blobs = '[[\"zz\", 1'",
])  # fmt: skip
def test_altered_layer_row_counts_as_absent(ledger: Ledger, path: Path, change: str) -> None:
    ledger.add_layer(LayerId(KEY, "k", "n", "a"), MADE, [("p", "h")])
    assert not ledger.layers.is_damaged(KEY)
    rows(path, f"UPDATE layers SET {change}")
    assert ledger.layers.find([KEY, OTHER]) == {}
    assert ledger.layers.path_prefixes([KEY, OTHER]) == {}
    assert ledger.layers.build_times() == []
    assert find_built(ledger, [KEY.hex, OTHER.hex]) == {}
    assert ledger.layers.is_damaged(OTHER if "key" in change else KEY)
    ledger.add_layer(LayerId(KEY, "k", "n", "a"), MADE, [("p", "h")])
    assert ledger.layers.find([KEY, OTHER]) == {KEY: MADE}
    assert not ledger.layers.is_damaged(KEY)


@pytest.mark.parametrize("change", [
    f"sha256 = '{'0' * 64}'", "sha256 = 'no hash'", "hashed_ns = 8", "size = 1", "sum = ''", "mtime_ns = 'x'",
])  # fmt: skip
def test_altered_file_row_counts_as_absent(ledger: Ledger, path: Path, change: str) -> None:
    stat = StatKey(1, (1 << 64) - 1, 3, 4, 5)
    ledger.files.add(stat, FileHash.of(b"x"), 9)
    rows(path, f"UPDATE files SET {change}")
    assert ledger.files.find(stat) is None
    assert ledger.files.find(StatKey(1, (1 << 64) - 1, 1, 4, 5)) is None
    ledger.files.add(stat, FileHash.of(b"x"), 9)
    assert ledger.files.find(stat) == (FileHash.of(b"x"), 9)


@pytest.mark.parametrize("change", ["file = 'y.whl'", "sha256 = 'no hash'", f"sha256 = '{'0' * 64}'", "sum = ''"])
def test_altered_wheel_row_counts_as_absent(ledger: Ledger, path: Path, change: str) -> None:
    ledger.wheels.add(KEY, "{}", "x.whl", FileHash.of(b"x"), 1)
    assert ledger.wheels.find(KEY) == ("x.whl", FileHash.of(b"x"))
    rows(path, f"UPDATE wheels SET {change}")
    assert ledger.wheels.find(KEY) is None


@pytest.mark.parametrize("change", ["report = '{'", "report = replace(report, 'layers', 'lbyers')", "sum = ''"])
def test_altered_build_row_is_skipped_for_the_previous_build(ledger: Ledger, path: Path, change: str) -> None:
    ledger.add_layer(LayerId(KEY, "k", "n", "a"), MADE, [])
    sums = {"bytes": {"imported": 5}, "phases": {"import": 0.5}}
    ledger.builds.add(report("s", ("a", KEY)) | sums, 1.0)
    ledger.builds.add(report("s", ("b", KEY)) | sums | {"seconds": 3}, 2.0)
    assert ledger.last_recipes("s", "i") == {"b": "a"}
    assert ledger.builds.import_times() == [(5, 0.5), (5, 0.5)]
    rows(path, f"UPDATE builds SET {change} WHERE id = 2")
    assert [started for started, _ in ledger.builds.last("s", "i", 2)] == [1.0]
    assert ledger.last_recipes("s", "i") == {"a": "a"}
    assert len(ledger.builds.import_times()) == (1 if change == "report = '{'" else 2)


def store(path: Path, table: str, column: str, value: object) -> None:
    """Store a value that a column's type forbids, as a flipped bit in a row's header does."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        ((sql,),) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        bare = sql.replace(f"{column} TEXT PRIMARY KEY", f"{column} PRIMARY KEY").replace(f"{column} INTEGER", column)
        bare = bare.replace(f"{column} TEXT", column).replace(f"{column} REAL", column)
        db.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (bare.replace(" NOT NULL", ""), table))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE {table} SET {column} = ?", (value,))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, table))


@pytest.mark.parametrize("value", [5, 1.5, b"\xff", None])
@pytest.mark.parametrize("column", ["recipe", "name", "blobs", "sum", "seconds", "claims", "built"])
def test_value_of_another_type_counts_as_damage(path: Path, column: str, value: object) -> None:
    key = Key.of(b"a")
    with closing(Ledger(path)) as ledger:
        ledger.add_layer(LayerId(key, "k", "n", "a"), MADE, [])
        ledger.builds.add(report("s", ("a", key)), 1.0)
    store(path, "layers", column, value)
    with closing(Ledger(path)) as ledger:
        kind = {5: "integer", 1.5: "real", None: "null"}.get(value, "blob")
        stored = ledger.database.select_one(f"SELECT typeof({column}) FROM layers")
        assert stored == (kind,) or column in ("seconds", "built")
        is_intact = column == "recipe" or (column, value) == ("seconds", 1.5)
        assert ledger.layers.find([key]) == ({key: MADE} if is_intact else {})
        recipe = {} if column == "recipe" else {"a": "a"}
        assert ledger.last_recipes("s", "i") == recipe
        assert (find_recipe(ledger, key.hex) is None) == (column == "recipe")


@pytest.mark.parametrize("value", [5, b"\xff", "other"])
@pytest.mark.parametrize(("table", "column"), [
    ("tombstones", "why"), ("tombstones", "at"), ("remote", "digest"), ("downloads", "sha256"), ("downloads", "size"),
])  # fmt: skip
def test_altered_rows_of_other_tables_count_as_absent(path: Path, table: str, column: str, value: object) -> None:
    def nonempty_tables(ledger: Ledger) -> dict[str, object]:
        there = ("tombstones", ledger.tombstones.find([KEY])), ("remote", ledger.remote_blobs.find("r/x"))
        return {name: found for name, found in (*there, ("downloads", ledger.downloads.fetch_times())) if found}

    with closing(Ledger(path)) as ledger:
        ledger.add_remote_layer(LayerId(KEY, "k", "n", "a"), MADE, [], only_at="r/x")
        ledger.remote_blobs.add("r/x", [Digest.of(b"1")])
        ledger.downloads.add(FileHash.of(b"1"), "n", 1, 1)
        assert nonempty_tables(ledger).keys() == {"tombstones", "remote", "downloads"}
    store(path, table, column, value)
    with closing(Ledger(path)) as ledger:
        assert nonempty_tables(ledger).keys() == {"tombstones", "remote", "downloads"} - {table}


def test_build_times_prefer_seconds_of_this_machine(ledger: Ledger) -> None:
    """Another machine's seconds are used only for a kind that was never built here."""
    shared, slow = Key.of(b"c"), LayerResult(blobs=MADE.blobs, seconds=100.0)
    ledger.add_layer(LayerId(KEY, "k", "n", "a"), MADE, [])
    ledger.add_remote_layer(LayerId(OTHER, "k", "n", "b"), slow, [])
    ledger.add_remote_layer(LayerId(shared, "other", "n", "c"), slow, [])
    assert sorted(ledger.layers.build_times()) == [("k", 12, 1.5), ("other", 12, 100.0)]
    ledger.add_remote_layer(LayerId(KEY, "k", "n", "a"), slow, [])  # its blobs were gone
    assert sorted(ledger.layers.build_times()) == [("k", 12, 1.5), ("other", 12, 100.0)]
    ledger.add_layer(LayerId(shared, "other", "n", "c"), MADE, [])
    assert sorted(ledger.layers.build_times()) == [("k", 12, 1.5), ("other", 12, 1.5)]


@pytest.mark.parametrize("data", ["not JSON", b"\xff\xfe", "{}", pack_listing([("another", "h")]), ""])
def test_altered_contents_and_recipes_count_as_absent(ledger: Ledger, path: Path, data: object) -> None:
    ledger.add_layer(LayerId(KEY, "k", "n", "a"), MADE, [("p", "h")])
    with closing(sqlite3.connect(path)) as db, db:
        seal = b"s" * 16 if isinstance(data, bytes) else ""
        db.execute("UPDATE layers SET contents = ?, recipe = 'not it'", (seal + data if data else b"",))
    assert ledger.layers.contents(KEY) is None
    ledger.builds.add(report("s", ("a", KEY)), 1.0)
    assert ledger.last_recipes("s", "i") == {}  # its recipe is not the key's


def test_ledger_removed_while_in_use_is_recreated_by_the_next_opener(path: Path) -> None:
    old = Ledger(path)
    old.add_layer(LayerId(KEY, "k", "n", "{}"), MADE, [("p", "h")] * 100)
    path.unlink()  # SQLite's log and index stay, and are still in use
    new = Ledger(path)
    assert new.layers.find([KEY]) == {}
    for number in range(50):
        old.add_layer(LayerId(Key.of(b"old %d" % number), "k", "n", "{}"), MADE, [("p", "h")] * number)
        new.add_layer(LayerId(Key.of(b"new %d" % number), "k", "n", "{}"), MADE, [("p", "h")] * number)
    old.close()
    new.add_layer(LayerId(OTHER, "k", "n", "{}"), MADE, [])
    again = Ledger(path)
    assert len(again.layers.find(Key.of(b"new %d" % number) for number in range(50))) == 50
    assert list(again.layers.find([OTHER, KEY])) == [OTHER]
    again.close()
    new.close()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_no_room_for_the_index_is_reported_as_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.mkdir()  # SQLite cannot open it, as where the last inode is taken
    with pytest.raises(BuildError, match="unable to open database file"):
        Ledger(path)
    monkeypatch.setattr(database, "is_disk_full", lambda _place: True)
    with pytest.raises(BuildError, match=r"ledger\.sqlite: the disk is full") as caught:
        Ledger(path)
    assert "free some room" in caught.value.hint


def test_missing_folder_raises_build_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="unable to open database file"):
        Ledger(tmp_path / "no" / "ledger.sqlite")


def test_threads_share_one_ledger(ledger: Ledger) -> None:
    def work(number: int) -> None:
        key = Key.of(str(number).encode())
        ledger.add_layer(LayerId(key, "k", "n", str(number)), MADE, [("p", str(number))])
        ledger.builds.add(report(str(number), ("n", key)), 1.0)
        assert ledger.layers.contents(key) == [("p", str(number))]
        assert ledger.last_recipes(str(number), "i") == {"n": str(number)}

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(24)))


def _process(path: Path, number: int, barrier: threading.Barrier) -> None:
    barrier.wait()
    ledger = Ledger(path)  # the first of them makes the tables
    for step in range(5):
        ledger.add_layer(LayerId(Key.of(f"{number} {step}".encode()), "k", "n", "{}"), MADE, [])
        ledger.builds.add(report(str(number)), 1.0)
    ledger.close()


def test_processes_create_and_write_one_ledger_at_once(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_process, args=(path, number, barrier)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 3
    assert rows(path, "SELECT count(*) FROM layers") == [(15,)]
    assert rows(path, "SELECT count(*) FROM builds") == [(15,)]
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]
