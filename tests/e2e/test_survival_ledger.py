"""A ledger that is deleted, damaged, locked, older or newer is recreated, refused, waited for, or migrated."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildkit.build.collision_sets import check_collisions, set_key
from buildkit.build.planner import open_planner
from buildkit.cache_admin.inventory import take_inventory
from buildkit.cli.build import run_build
from buildkit.cli.guard import guarded
from buildkit.digest import FileHash, Key
from buildkit.errors import BuildError
from buildkit.events import ignore_event
from buildkit.inspection import plan as plan_session
from buildkit.inspection.timings import find_builds
from buildkit.oci.blob import LayerResult
from buildkit.plan.explain.causes import format_causes
from buildkit.plan.forecast import forecast
from buildkit.plan.plan import LayerSource
from buildkit.scan import Scan
from buildkit.store import database, schema
from buildkit.store.build_history import find_built
from buildkit.store.scan_verdicts import ScanVerdicts
from tests.e2e.survival import Doomed, Moment, left_behind, make_rng, unsound, wipe
from tests.e2e.tinyproject import Tiny, one_error
from tests.waiting import wait_until

pytestmark = pytest.mark.tools

# Schema version 1 as it was written, and what is in today's tables of it.
_FIRST = """
CREATE TABLE layers (key TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, recipe TEXT NOT NULL,
  blobs TEXT NOT NULL, env TEXT NOT NULL, contents BLOB NOT NULL,
  seconds REAL NOT NULL, built REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE wheels (key TEXT PRIMARY KEY, recipe TEXT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL,
  seconds REAL NOT NULL, built REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE files (device INTEGER, inode INTEGER, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL, hashed_ns INTEGER NOT NULL,
  PRIMARY KEY (device, inode)) WITHOUT ROWID;
CREATE TABLE builds (id INTEGER PRIMARY KEY, stage TEXT NOT NULL, image TEXT NOT NULL, digest TEXT NOT NULL,
  started REAL NOT NULL, seconds REAL NOT NULL, report TEXT NOT NULL);
CREATE INDEX builds_of_stage ON builds (stage, id);
CREATE TABLE phases (build INTEGER NOT NULL REFERENCES builds (id), name TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE tombstones (key TEXT PRIMARY KEY, name TEXT NOT NULL, why TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE checked (key TEXT PRIMARY KEY) WITHOUT ROWID;
PRAGMA user_version=1;
"""
_ROWS = {
    "layers": "key, kind, name, recipe, blobs, env, contents, seconds, built, used",
    "files": "device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns",
    "builds": "id, stage, image, digest, started, seconds, report",
    "checked": "key",
}


def ledger(tiny: Tiny) -> Path:
    return tiny.cache / "ledger.sqlite"


def remove(tiny: Tiny, pattern: str) -> None:
    for path in tiny.cache.glob(pattern):
        path.unlink()


def make_first(tiny: Tiny) -> None:
    """Let the ledger be of schema version 1, with its rows, and older than the key, as no version before 6 had one."""
    tiny.env["BUILDKIT_LEDGER_KEY"] = str(tiny.folder / "new.key")
    new = ledger(tiny).with_name("new")
    with closing(sqlite3.connect(new)) as db, db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(_FIRST)
        db.execute("ATTACH ? AS today", (str(ledger(tiny)),))
        for table, columns in _ROWS.items():
            today = columns.replace("env", "'[]'")
            db.execute(f"INSERT INTO {table} ({columns}) SELECT {today} FROM today.{table}")
    remove(tiny, "ledger.sqlite*")
    new.rename(ledger(tiny))


def version(tiny: Tiny) -> int:
    with closing(sqlite3.connect(ledger(tiny))) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("pattern", ["ledger.sqlite", "ledger.sqlite*"])
def test_deleted_ledger_is_recreated(tiny: Tiny, pattern: str) -> None:
    """With its write-ahead log, as after a killed build, or without."""
    digest = tiny.build("app").report["digest"]
    wipe(tiny)
    assert Doomed(tiny, "app").kill(Moment(lines=14), whole=True)
    assert (tiny.cache / "ledger.sqlite-wal").exists()
    remove(tiny, pattern)
    again = tiny.build("app")
    assert again.report["digest"] == digest
    assert set(again.built().values()) == {"first build"}
    assert unsound(tiny) == []
    assert tiny.build("app").built() == {}


@pytest.mark.parametrize("pattern", ["ledger.sqlite", "ledger.sqlite*"])
def test_ledger_deleted_while_a_build_runs_is_recreated(tiny: Tiny, pattern: str) -> None:
    step = 'summary = "slow"\nfrom = "base"\n[[run]]\nname = "slow"\nscript = "sleep 1; echo made > /opt/made"\n'
    tiny.write("stages/tools/stage.toml", step)
    with tiny.start("tools") as slow:
        wait_until(lambda: bool(tiny.containers()))
        remove(tiny, pattern)
        tiny.build("app")
        output, _ = slow.communicate(timeout=60)
    assert slow.returncode == 0, output
    assert tiny.run_image("tools", "cat", "/opt/made") == "made\n"
    assert unsound(tiny) == []
    assert left_behind(tiny) == []
    assert tiny.build("app").built() == {}


@pytest.mark.parametrize("data", [b"", b"rubbish, and more of it " * 500, b"SQLite format 3\0" * 600])
def test_ledger_that_is_no_database_is_refused(tiny: Tiny, data: bytes) -> None:
    digest = tiny.build("app").report["digest"]
    ledger(tiny).write_bytes(data)
    if data:
        message = tiny.refuse("app", code=1)
        assert f"{ledger(tiny)}: the ledger cannot be used" in message
        assert "remove it, and layers are built again" in message.partition("hint:")[2]
        assert ledger(tiny).read_bytes() == data
        ledger(tiny).unlink()  # as it says
    assert tiny.build("app").report["digest"] == digest
    assert unsound(tiny) == []


def flip(tiny: Tiny, whole: bytes, rng: random.Random) -> None:
    """Write a ledger with one bit flipped in it; its header, which SQLite does not check, is left alone."""
    data, at = bytearray(whole), rng.choice([at for at, byte in enumerate(whole) if byte and at >= 100])
    data[at] ^= 1 << rng.randrange(8)
    remove(tiny, "ledger.sqlite*")
    ledger(tiny).write_bytes(data)
    print(f"byte {at} is {data[at]:#x}")


def test_flipped_bits_never_give_a_wrong_image(tiny: Tiny) -> None:
    """A flipped bit anywhere is refused, or its row counts as absent; no build makes another image."""
    digest = tiny.build("app").report["digest"]
    rng, whole = make_rng("flips"), ledger(tiny).read_bytes()
    for number in range(8):
        flip(tiny, whole, rng)
        if number % 2:
            tiny.tool("buildah", "rmi", "--all", "--force")
        ended = tiny.run("build-app")
        if ended.code == 0:
            assert ended.report["digest"] == digest, ended.text
        else:
            assert "ledger.sqlite: the ledger cannot be used: " in one_error(ended, 1)
            assert "hint: it is damaged: remove it, and layers are built again" in ended.text
    remove(tiny, "ledger.sqlite*")
    assert tiny.build("app").report["digest"] == digest
    assert unsound(tiny) == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """The ledger's data that a build uses: keys by file hashes, layers of these keys, and verdicts on models."""

    keys: dict[str, Key]
    made: dict[str, LayerResult]
    verdicts: dict[FileHash, Scan]


def ask(tiny: Tiny, scanned: Sequence[tuple[str, str]]) -> Believed:
    """Plan in this process, and ask the ledger all that sessions ask: nothing is raised but BuildError."""
    with open_planner(tiny.project, ignore_event) as planner:
        held, context = planner.context.ledger, planner.context
        plan = planner.plan("app", storage=False).plan
        specs, keys = [entry.spec for entry in plan.entries], [entry.spec.key for entry in plan.entries]
        forecast(plan, plan_session.measure_paces(held), planner.to_fetch)
        assert all(format_causes(planner.reasons(plan.composition).find(spec)) for spec in specs)
        _ = find_built(held, [key.hex for key in keys]), [held.builds.uses_of(key) for key in keys]
        _ = held.remote_blobs.find("r")
        _ = held.tombstones.find(keys), held.starts.find(set_key(plan.composition))
        _ = find_builds(planner, ["app"], 5), take_inventory(held, context.blobs.folder, None)
        made = {x.spec.name: x.result for x in plan.entries if x.source is LayerSource.CACHE and x.result}
        if len(made) == len(specs):
            check_collisions(plan.composition, held, context.layers, lambda _key: pytest.fail("its blob is there"))
        scans = [ScanVerdicts(held).find([FileHash(sha256)], rules) for sha256, rules in scanned]
        verdicts = {sha256: scan for known in scans for sha256, scan in known.items()}
        return Believed(keys={spec.name: spec.key for spec in specs}, made=made, verdicts=verdicts)


def test_many_flipped_bits_never_give_a_wrong_image(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """BUILDKIT_TEST_FLIPS plans in this process: each is unaffected, rebuilds layers, or is refused."""
    tiny.build("app", "--no-import")
    for name, value in tiny.env.items():
        monkeypatch.setenv(name, value)
    with closing(sqlite3.connect(ledger(tiny))) as db:
        scanned = db.execute("SELECT sha256, rules FROM verdicts").fetchall()
    rng, whole = make_rng("many flips"), ledger(tiny).read_bytes()
    sound, counts, refused = ask(tiny, scanned), Counter[str](), list[str]()
    assert len(sound.made) == len(sound.keys)
    assert len(sound.verdicts) == len(scanned) > 0
    for _ in range(int(os.environ.get("BUILDKIT_TEST_FLIPS", "150"))):
        flip(tiny, whole, rng)
        try:
            found = ask(tiny, scanned)
        except BuildError as error:
            refused.append(f"{error} {error.hint}")
            continue
        assert found.keys == sound.keys
        assert found.made.items() <= sound.made.items()
        assert found.verdicts.items() <= sound.verdicts.items()
        counts["unaffected" if found == sound else "rebuilt"] += 1
    print(dict(counts), *sorted(refused), sep="\n")
    assert counts["unaffected"]
    for message in refused:
        assert re.search(r"ledger\.sqlite: the ledger cannot be used: .* it is damaged: remove it, and layers", message)


@pytest.mark.parametrize(
    ("layer", "change"),
    [("deps/bulk", "blobs = replace(blobs, ', 10', ', 11')"), ("base/image", "config = replace(config, 'yes', 'no')")],
)
def test_altered_rows_count_as_absent(tiny: Tiny, layer: str, change: str) -> None:
    """Sizes and environments go from the ledger into an image only if their row is unaltered."""
    digest = tiny.build("app").report["digest"]
    with closing(sqlite3.connect(ledger(tiny))) as db, db:
        assert db.execute(f"UPDATE layers SET {change} WHERE name = ?", (layer,)).rowcount == 1
    ended = tiny.build("app")
    assert ended.report["digest"] == digest
    assert ended.built()[layer] == "its row in the ledger was damaged"
    assert tiny.build("app").built() == {}


def test_altered_file_hashes_are_not_trusted(tiny: Tiny) -> None:
    """The files are hashed again, so that no layer is built under a wrong key."""
    digest = tiny.build("app").report["digest"]
    inode = (tiny.project / "stages/app/app/main.sh").stat().st_ino
    with closing(sqlite3.connect(ledger(tiny))) as db, db:
        other = "UPDATE files SET sha256 = substr(sha256, 2) || substr(sha256, 1, 1)"
        assert db.execute(f"{other} WHERE inode = ?", (inode,)).rowcount == 1
    again = tiny.build("app")
    assert again.built() == {}
    assert again.report["digest"] == digest


@pytest.fixture
def locked(tiny: Tiny) -> Iterator[sqlite3.Connection]:
    """A connection that locks the ledger of a project that was built once."""
    tiny.build("deps", "--no-import")
    with closing(sqlite3.connect(ledger(tiny), isolation_level=None, check_same_thread=False)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield db


def test_build_waits_for_a_locked_ledger(tiny: Tiny, locked: sqlite3.Connection) -> None:
    timer = threading.Timer(2, lambda: locked.execute("COMMIT"))
    timer.start()
    assert len(tiny.build("models", "--no-import").built()) == 2
    assert timer.finished.is_set()
    timer.join()
    assert unsound(tiny) == []


def test_build_gives_up_on_a_ledger_locked_too_long(
    tiny: Tiny, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.3)
    for name, value in tiny.env.items():
        monkeypatch.setenv(name, value)
    assert guarded(lambda: run_build(tiny.project, "models", ["--no-import"])) == 1
    errors = capsys.readouterr().err
    assert "ledger.sqlite: the ledger cannot be used: database is locked" in errors
    assert "another process has held it for 0.3 s: find it, for instance with fuser" in errors
    assert tiny.left_over() == []
    locked.execute("ROLLBACK")
    assert guarded(lambda: run_build(tiny.project, "models", ["--no-import"])) == 0
    assert unsound(tiny) == []


def test_ledger_of_the_first_schema_is_migrated(tiny: Tiny) -> None:
    tiny.build("app")
    before = tiny.rows("layers")
    make_first(tiny)
    again = tiny.build("app")
    assert set(again.built()) == {"base/image"}, "the ledger had no config of it then"
    assert version(tiny) == schema.VERSION
    assert tiny.rows("layers") == before
    assert unsound(tiny) == []
    tiny.write("stages/app/app/main.sh", "echo new\n")
    assert "main.sh changed" in tiny.build("app").built()["app/app"]  # it knows the recipes of before


def test_ledger_of_the_first_schema_is_migrated_by_several_builds_at_once(tiny: Tiny) -> None:
    tiny.build("app")
    make_first(tiny)
    argv = tiny.argv("build-app")
    many = [subprocess.Popen(argv, cwd=tiny.folder, env=tiny.env, stderr=subprocess.PIPE) for _ in range(4)]
    errors = [child.communicate(timeout=60)[1] for child in many]
    assert [child.returncode for child in many] == [0] * 4, errors
    assert version(tiny) == schema.VERSION
    assert tiny.build("app").built() == {}


def test_ledger_of_a_newer_schema_is_refused(tiny: Tiny) -> None:
    tiny.build("app")
    with closing(sqlite3.connect(ledger(tiny))) as db:
        db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    before = ledger(tiny).read_bytes()
    message = tiny.refuse("app", code=1)
    assert f"{ledger(tiny)}: written by a newer buildkit" in message
    assert "upgrade buildkit, or use a separate cache: BUILDKIT_CACHE=/path" in message
    assert ledger(tiny).read_bytes() == before
    tiny.build("app", BUILDKIT_CACHE=str(tiny.folder / "another"))
