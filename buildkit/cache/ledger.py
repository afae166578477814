"""The ledger: what was made from which recipe. The only importer of ``sqlite3``.

Tables (schema version 1, kept in ``PRAGMA user_version``):

    layers      key, kind, name, recipe (JSON), blobs (JSON), env (JSON), contents (zlib JSON), seconds, built, used
    wheels      key, recipe, file, sha256, seconds, built, used          compiled from sdists and trees
    files       device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns          the stat index
    builds      id, stage, image, digest, started, seconds, report (JSON of the report)
    phases      build, name, seconds
    tombstones  key, name, why, at          what was evicted
    checked     key          sets of layers that were found free of collisions

Times are seconds since the epoch. A row is written after the blobs it names are on the disk.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.digest import DiffId, Digest, FileHash, Key, canonical_json
from buildkit.errors import BuildError
from buildkit.layers.member import Compression
from buildkit.oci.blob import Blob, Made

VERSION = 1
_TOUCH_SECONDS = 3600
_BUSY_SECONDS = 30
_SCHEMA = """
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
"""


@dataclass(frozen=True, slots=True)
class StatKey:
    """What tells that a file is still the one that was hashed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Ledger:
    """The tables of one cache folder; threads may share it, processes open their own."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._path = path
        with ExitStack() as stack, _explained(path):
            self._db = stack.enter_context(
                closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False))
            )
            self._prepare()
            stack.pop_all()  # it is of use: only ``close`` closes it

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def find(self, keys: Iterable[Key]) -> dict[Key, Made]:
        """What is known of these keys."""
        rows = self._select_in("SELECT key, blobs, seconds, env FROM layers WHERE key IN", [k.hex for k in keys])
        return {Key(row[0]): _made(row[1], row[2], row[3]) for row in rows}

    def add(self, key: Key, kind: str, name: str, recipe: str, made: Made, contents: Any) -> None:  # noqa: ANN401
        """Record what a recipe came to; its blobs are on the disk already. ``contents`` lists owned paths."""
        blobs = [[b.digest.hex, b.diff_id.hex, b.size, b.unpacked, b.compression.value] for b in made.blobs]
        listing = zlib.compress(canonical_json(contents).encode(), 1)
        now = time.time()
        row = (key.hex, kind, name, recipe, json.dumps(blobs), json.dumps(made.env), listing, made.seconds, now, now)
        with self._transaction():
            self._write(f"INSERT OR REPLACE INTO layers VALUES ({','.join('?' * len(row))})", row)  # noqa: S608
            self._write("DELETE FROM tombstones WHERE key = ?", (key.hex,))

    def contents(self, key: Key) -> list[tuple[str, str]]:
        """Paths that a layer owns, with their content hashes."""
        row = self._one("SELECT contents FROM layers WHERE key = ?", (key.hex,))
        return [] if row is None else [(path, sha256) for path, sha256 in json.loads(zlib.decompress(row[0]))]

    def touch(self, keys: Sequence[Key]) -> None:
        """Note that layers were used, at most once an hour."""
        now = time.time()
        stale = self._select_in(
            f"SELECT key FROM layers WHERE used < {now - _TOUCH_SECONDS} AND key IN",  # noqa: S608 - a number
            [k.hex for k in keys],
        )
        for (key,) in stale:
            self._write("UPDATE layers SET used = ? WHERE key = ?", (now, key))

    def find_wheel(self, key: Key) -> tuple[str, FileHash] | None:
        """File name and hash of a compiled wheel."""
        row = self._one("SELECT file, sha256 FROM wheels WHERE key = ?", (key.hex,))
        return None if row is None else (row[0], FileHash(row[1]))

    def add_wheel(self, key: Key, recipe: str, file: str, sha256: FileHash, seconds: float) -> None:
        """Record a compiled wheel."""
        now = time.time()
        row = (key.hex, recipe, file, sha256.hex, seconds, now, now)
        self._write("INSERT OR REPLACE INTO wheels VALUES (?,?,?,?,?,?,?)", row)

    def find_file(self, stat: StatKey) -> tuple[FileHash, int] | None:
        """Hash of a file that looks unchanged, and when (ns) its hashing began."""
        row = self._one(
            "SELECT sha256, hashed_ns FROM files WHERE device=? AND inode=? AND size=? AND mtime_ns=? AND ctime_ns=?",
            (_signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns),
        )
        return None if row is None else (FileHash(row[0]), row[1])

    def add_file(self, stat: StatKey, sha256: FileHash, hashed_ns: int) -> None:
        """Record a file's hash."""
        row = (_signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns)
        self._write("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?)", (*row, sha256.hex, hashed_ns))

    def is_checked(self, key: Key) -> bool:
        """Whether this set of layers was found free of collisions."""
        return self._one("SELECT 1 FROM checked WHERE key = ?", (key.hex,)) is not None

    def add_checked(self, key: Key) -> None:
        """Record that a set of layers is free of collisions."""
        self._write("INSERT OR IGNORE INTO checked VALUES (?)", (key.hex,))

    def add_build(self, report: dict[str, Any], started: float) -> None:
        """Record a finished build by its report."""
        row = (report["stage"], report["image"], report["digest"], started, report["seconds"], canonical_json(report))
        with self._transaction():
            self._write("INSERT INTO builds VALUES (NULL,?,?,?,?,?,?)", row)
            (build,) = self._one("SELECT last_insert_rowid()", ())
            for name, seconds in report["phases"].items():
                self._write("INSERT INTO phases VALUES (?,?,?)", (build, name, seconds))

    def last_recipes(self, stage: str, image: str) -> dict[str, str]:
        """Layer name to recipe of the last build of a stage's image (of this project); empty before the first."""
        query = "SELECT report FROM builds WHERE stage = ? AND image = ? ORDER BY id DESC LIMIT 1"
        row = self._one(query, (stage, image))
        if row is None:
            return {}
        keys = {layer["key"].removeprefix("sha256:"): layer["name"] for layer in json.loads(row[0])["layers"]}
        rows = self._select_in("SELECT key, recipe FROM layers WHERE key IN", list(keys))
        return {keys[key]: recipe for key, recipe in rows}

    def _prepare(self) -> None:
        self._db.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last rows, never the file: built again
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        if version > VERSION:
            raise BuildError(
                f"{self._path}: written by a newer buildkit (schema {version}, this one knows {VERSION})",
                hint="upgrade buildkit, or give this one a cache of its own: BUILDKIT_CACHE=/path",
            )
        self._switch_to_wal()
        with closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN EXCLUSIVE")
            (version,) = cursor.execute("PRAGMA user_version").fetchone()
            if version == 0:  # another process may have been first
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    cursor.execute(statement)
                cursor.execute(f"PRAGMA user_version={VERSION}")
            cursor.execute("COMMIT")

    def _switch_to_wal(self) -> None:
        """Processes that make the file at the same time refuse one another here without waiting: we wait."""
        end = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.02)
            else:
                return

    def _select_in(self, query: str, values: list[str]) -> list[Any]:
        rows: list[Any] = []
        with self._lock, _explained(self._path):
            for start in range(0, len(values), 500):
                some = values[start : start + 500]
                rows += self._db.execute(f"{query} ({','.join('?' * len(some))})", some).fetchall()
        return rows

    def _one(self, query: str, values: tuple[Any, ...]) -> Any:  # noqa: ANN401 - a row
        with self._lock, _explained(self._path):
            return self._db.execute(query, values).fetchone()

    def _write(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        with self._lock, _explained(self._path):
            self._db.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All that is written in the block, or nothing; nobody else waits for us if it fails."""
        with self._lock:
            self._write("BEGIN IMMEDIATE")
            try:
                yield
                self._write("COMMIT")
            except BaseException:
                self._db.rollback()
                raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise BuildError(
            f"{path}: the ledger cannot be used: {error}",
            hint="is the disk full, or the file locked or read-only? if it is damaged, remove it: "
            "layers are then built again",
        ) from error


def _made(blobs: str, seconds: float, env: str) -> Made:
    listed = tuple(
        Blob(digest=Digest(d), diff_id=DiffId(i), size=size, unpacked=unpacked, compression=Compression(how))
        for d, i, size, unpacked, how in json.loads(blobs)
    )
    return Made(blobs=listed, seconds=seconds, env=tuple(json.loads(env)))


def _signed(number: int) -> int:
    """SQLite's integers have a sign; inode numbers of some file systems use all 64 bits."""
    return number - (1 << 64) if number >= 1 << 63 else number
