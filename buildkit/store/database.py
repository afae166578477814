"""The ledger's file: opened, made, migrated, and asked. The only importer of ``sqlite3``.

The schema's version is kept in ``PRAGMA user_version``; ``_STEPS[n]`` leads from version n to n + 1, all steps in one
exclusive transaction, so that a crash leaves the old version whole.

Rows have a sum over the columns that are believed (`SUMMED`): one that was damaged is as if there were none. Those of
``phases`` are only told, and those of ``checked`` are no more than a hash, which is another's once a bit is flipped.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from buildkit.errors import BuildError
from buildkit.tools.disk_full import is_disk_full

_BUSY_SECONDS = 30
_DAMAGED = "it is damaged: remove it, and layers are built again"
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, zlib.error)
_STEPS = (
    """
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
""",
    """
ALTER TABLE layers ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
ALTER TABLE phases ADD COLUMN cpu REAL NOT NULL DEFAULT 0;
ALTER TABLE phases ADD COLUMN read INTEGER NOT NULL DEFAULT 0;
ALTER TABLE phases ADD COLUMN written INTEGER NOT NULL DEFAULT 0;
ALTER TABLE layers ADD COLUMN claims TEXT NOT NULL DEFAULT '';
ALTER TABLE layers ADD COLUMN sum TEXT NOT NULL DEFAULT '';
CREATE TABLE downloads (sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL, seconds REAL NOT NULL,
  fetched REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE remote (repository TEXT, digest TEXT, seen REAL NOT NULL, PRIMARY KEY (repository, digest)) WITHOUT ROWID;
""",
    """
CREATE TABLE verdicts (sha256 TEXT, rules TEXT, scan TEXT NOT NULL, seconds REAL NOT NULL, scanned REAL NOT NULL,
  used REAL NOT NULL, PRIMARY KEY (sha256, rules)) WITHOUT ROWID;
CREATE TABLE checksums (sha256 TEXT PRIMARY KEY, sha512 TEXT NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
""",
    """
CREATE TABLE natives (digest TEXT PRIMARY KEY, facts BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE starts (key TEXT PRIMARY KEY, said TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
""",
    """
UPDATE layers SET sum = sum_of(key, kind, name, blobs, env, seconds, built, times, claims)
  WHERE sum IN ('', sum_of(key, blobs, env));
ALTER TABLE wheels ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE wheels SET sum = sum_of(key, file, sha256, seconds, built);
ALTER TABLE files ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE files SET sum = sum_of(device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns);
ALTER TABLE downloads ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE downloads SET sum = sum_of(sha256, name, size, seconds, fetched);
ALTER TABLE builds ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE builds SET sum = sum_of(stage, image, digest, started, seconds, report);
ALTER TABLE tombstones ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE tombstones SET sum = sum_of(key, name, why, at);
ALTER TABLE remote ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE remote SET sum = sum_of(repository, digest, seen);
ALTER TABLE verdicts ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE verdicts SET sum = sum_of(sha256, rules, scan, seconds, scanned);
ALTER TABLE checksums ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE checksums SET sum = sum_of(sha256, sha512);
ALTER TABLE natives ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE natives SET sum = sum_of(digest, facts, at);
ALTER TABLE starts ADD COLUMN sum TEXT NOT NULL DEFAULT '';
UPDATE starts SET sum = sum_of(key, said, at);
""",
)
VERSION = len(_STEPS)

# All but what changes when a row is used, recipes, which are held against their keys, and zlib's contents.
SUMMED = {
    "layers": "key, kind, name, blobs, env, seconds, built, times, claims",
    "wheels": "key, file, sha256, seconds, built",
    "files": "device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns",
    "downloads": "sha256, name, size, seconds, fetched",
    "builds": "stage, image, digest, started, seconds, report",
    "tombstones": "key, name, why, at",
    "remote": "repository, digest, seen",
    "verdicts": "sha256, rules, scan, seconds, scanned",
    "checksums": "sha256, sha512",
    "natives": "digest, facts, at",
    "starts": "key, said, at",
}

Values = tuple[Any, ...]


def sum_of(*values: Any) -> str:  # noqa: ANN401 - what SQLite has
    """What tells that a row's values are those that were written; a number of a REAL column must be a float."""
    return hashlib.sha256("\0".join(map(str, values)).encode()).hexdigest()[:16]


class Database:
    """One SQLite file in WAL mode; threads may share it, processes open their own.

    Raises BuildError for a file that cannot be used: damaged, locked for 30 s, on a full disk, or of a newer schema.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        """Open the file; ``alone`` shuts others out, and reads it even where a full disk has no room for its index."""
        self._lock = threading.RLock()
        self._path = path
        self._alone = alone
        _clear_remains(path)
        with ExitStack() as stack, _explained(path):
            self._db = stack.enter_context(
                closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False))
            )
            self._db.text_factory = lambda data: data.decode("utf-8", "replace")  # damage is found by what reads it
            self._prepare()
            stack.pop_all()  # it is of use: only ``close`` closes it

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def select(self, query: str, values: Values = ()) -> list[Any]:
        """All rows of a query."""
        with self._lock, _explained(self._path):
            return self._db.execute(query, values).fetchall()

    def select_in(self, query: str, values: Sequence[str]) -> list[Any]:
        """All rows of a query that ends in ``… IN`` for ``values``, however many they are."""
        rows: list[Any] = []
        for start in range(0, len(values), 500):
            some = values[start : start + 500]
            rows += self.select(f"{query} ({','.join('?' * len(some))})", tuple(some))
        return rows

    def one(self, query: str, values: Values = ()) -> Any:  # noqa: ANN401 - a row
        """The first row of a query, or None."""
        with self._lock, _explained(self._path):
            return self._db.execute(query, values).fetchone()

    def write(self, statement: str, values: Values = ()) -> None:
        """Run a statement that changes something."""
        with self._lock, _explained(self._path):
            self._db.execute(statement, values)

    def whole(self, table: str, condition: str, values: Values = (), *, also: str = "") -> list[Any]:
        """The believed columns (`SUMMED`) of the rows of which none was damaged, and those that ``also`` names.

        ``condition`` is what follows the table's name; one that ends in ``IN`` is for ``values``, however many.
        """
        columns = SUMMED[table]
        query = f"SELECT sum, {columns}{also and ', '}{also} FROM {table} {condition}"  # noqa: S608 - our own words
        rows = self.select_in(query, values) if condition.endswith(" IN") else self.select(query, values)
        end = columns.count(",") + 2
        return [row[1:] for row in rows if row[0] == sum_of(*row[1:end])]

    def put(self, table: str, believed: Values, **more: object) -> None:
        """Write a row of these believed columns (`SUMMED`) and ``more``, with its sum, over one of the same key."""
        columns = ", ".join([SUMMED[table], *more, "sum"])
        row = (*believed, *more.values(), sum_of(*believed))
        self.write(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({','.join('?' * len(row))})", row)  # noqa: S608

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block, or nothing; nobody else waits for us if it fails."""
        with self._lock:
            self.write("BEGIN IMMEDIATE")
            try:
                yield
                self.write("COMMIT")
            except BaseException:
                self._db.rollback()
                raise

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Say that the file is damaged, where a value cannot be read as what it should be."""
        try:
            yield
        except _UNREADABLE as error:
            raise BuildError(f"{self._path}: the ledger cannot be used: {error}", hint=_DAMAGED) from error

    def _prepare(self) -> None:
        if self._alone:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # then what processes share is kept in memory
        self._db.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last rows, never the file: built again
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        self._refuse_newer(version)
        self._switch_to_wal()
        self._db.create_function("sum_of", -1, sum_of)
        with closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN EXCLUSIVE")
            (version,) = cursor.execute("PRAGMA user_version").fetchone()  # another process may have been first
            self._refuse_newer(version)
            for step in _STEPS[version:]:
                for statement in filter(str.strip, step.split(";")):
                    cursor.execute(statement)
            cursor.execute(f"PRAGMA user_version={VERSION}")
            cursor.execute("COMMIT")

    def _refuse_newer(self, version: int) -> None:
        if version > VERSION:
            raise BuildError(
                f"{self._path}: written by a newer buildkit (schema {version}, this one knows {VERSION})",
                hint="upgrade buildkit, or give this one a cache of its own: BUILDKIT_CACHE=/path",
            )

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


def _clear_remains(path: Path) -> None:
    """Where the file was removed, remove what SQLite kept beside it: a build that goes on with both may be using it."""
    if path.exists():
        return
    with suppress(OSError), ExitStack() as stack:  # whoever opens the file says what is wrong
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists():  # nobody was quicker
            for end in ("-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            path.touch()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite's message quotes what it cannot read
        raise BuildError(f"{path}: the ledger cannot be used: {error}", hint=_DAMAGED) from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        hints = {
            sqlite3.SQLITE_BUSY: f"another process has held it for {_BUSY_SECONDS} s: find it, for instance with fuser",
            sqlite3.SQLITE_FULL: "free some room, or move the cache: BUILDKIT_CACHE=/path",
            sqlite3.SQLITE_READONLY: "make it writable, or move the cache: BUILDKIT_CACHE=/path",
            sqlite3.SQLITE_CORRUPT: _DAMAGED,
            sqlite3.SQLITE_NOTADB: _DAMAGED,
            sqlite3.SQLITE_ERROR: _DAMAGED,  # no such table, no such column
        }
        if code & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and is_disk_full(path.parent):
            raise BuildError(f"{path}: the disk is full", hint=hints[sqlite3.SQLITE_FULL]) from error
        said = " ".join(str(error).split())  # it may quote the lines of a table's definition
        hint = hints.get(code & 0xFF, "is the disk full, or the file read-only? without it, layers are built again")
        raise BuildError(f"{path}: the ledger cannot be used: {said}", hint=hint) from error
