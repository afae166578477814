"""Open, create, migrate and query the ledger's SQLite file. The only importer of ``sqlite3``.

All migrations (store/schema.py) run in one exclusive transaction, so that a crash leaves the old version intact.

Rows have a sum over the columns that are trusted (`SUMMED`), made with a key that is not in the cache
(store/ledger_key.py): a row that is damaged, or that somebody else wrote, counts as absent. The rows of ``checked`` are
nothing but sums.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from buildkit.errors import BuildError
from buildkit.store.ledger_key import ensure_ledger_key
from buildkit.store.schema import MIGRATIONS, SUMMED, VERSION
from buildkit.tools.disk_full import is_disk_full

_BUSY_SECONDS = 30
_RECLAIM_BYTES = 1 << 20  # free pages that are worth rewriting the file
_DAMAGED = "it is damaged: remove it, and layers are built again"
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, zlib.error)

Values = tuple[Any, ...]


def plain_sum_of(*values: Any) -> str:  # noqa: ANN401 - what SQLite has
    """Return the sum without a key that rows had up to version 6."""
    return hashlib.sha256("\0".join(map(str, values)).encode()).hexdigest()[:16]


class Database:
    """One SQLite file in WAL mode; threads may share it, processes open their own.

    Raises BuildError for a file that cannot be used: damaged, locked for 30 s, on a full disk, or of a newer schema;
    and for a key that cannot be used. ``key`` makes the sums of rows.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        """Open the file; ``alone`` excludes other processes, and works where a full disk has no room for the index."""
        self.path = path
        self._lock = threading.RLock()
        self._alone = alone
        self.key = ensure_ledger_key()
        self._changed_ns = _last_change_ns(path)  # before it is opened
        _remove_stale_files(path)
        with ExitStack() as stack, _explained(path):
            self._db = stack.enter_context(
                closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False))
            )
            self._db.text_factory = partial(str, encoding="utf-8", errors="replace")  # the sum finds the damage
            self._prepare()
            stack.pop_all()  # opened: only ``close`` closes it

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def select(self, query: str, values: Values = ()) -> list[Any]:
        """Return all rows of a query."""
        with self._lock, _explained(self.path):
            return self._db.execute(query, values).fetchall()

    def select_in(self, query: str, values: Sequence[str]) -> list[Any]:
        """Return all rows of a query that ends in ``… IN``, for any number of ``values``."""
        chosen = f"{query} (SELECT value FROM json_each(?))"  # noqa: S608 - our own text
        return self.select(chosen, (json.dumps(values),)) if values else []

    def select_one(self, query: str, values: Values = ()) -> Any:  # noqa: ANN401 - a row
        """Return the first row of a query, or None."""
        with self._lock, _explained(self.path):
            return self._db.execute(query, values).fetchone()

    def select_intact(self, table: str, condition: str, values: Values = (), *, extra: str = "") -> list[Any]:
        """Return the undamaged rows of a table: the columns of `SUMMED`, followed by ``extra`` ones.

        ``condition`` follows the table's name; if it ends in ``IN``, it applies to any number of ``values``.
        """
        columns = SUMMED[table]
        query = f"SELECT sum, {columns}{extra and ', '}{extra} FROM {table} {condition}"  # noqa: S608 - our own text
        rows = self.select_in(query, values) if condition.endswith(" IN") else self.select(query, values)
        end, sum_of = columns.count(",") + 2, self.key.sum_of
        return [row[1:] for row in rows if row[0] == sum_of(table, *row[1:end])]

    def execute(self, statement: str, values: Values = ()) -> int:
        """Run a statement that changes something; return how many rows changed."""
        with self._lock, _explained(self.path):
            return self._db.execute(statement, values).rowcount

    def put(self, table: str, summed: Values, **unsummed: object) -> None:
        """Insert a row with its sum, or replace the one with the same key.

        ``summed`` are the values of the columns of `SUMMED`, in this order; ``unsummed`` those of other columns.
        """
        columns = ", ".join([SUMMED[table], *unsummed, "sum"])
        row = (*summed, *unsummed.values(), self.key.sum_of(table, *summed))
        self.execute(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({','.join('?' * len(row))})", row)  # noqa: S608

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything in the block or nothing; a failure releases the lock for other processes."""
        with self._lock:
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                self._db.rollback()
                raise

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Report the file as damaged if a value in the block cannot be decoded."""
        try:
            yield
        except _UNREADABLE as error:
            raise BuildError(f"{self.path}: the ledger cannot be used: {error}", hint=_DAMAGED) from error

    def find_corruption(self) -> tuple[str, ...]:
        """Return what SQLite finds wrong with the file; raises BuildError if it cannot be read at all."""
        return tuple(text for (text,) in self.select("PRAGMA quick_check") if text != "ok")

    def checkpoint(self, kind: str) -> None:
        """Copy the write-ahead log into the file; ``kind`` is ``FULL`` or ``TRUNCATE``."""
        self.select(f"PRAGMA wal_checkpoint({kind})")

    def reclaim_space(self) -> None:
        """Return free pages to the file system, if there are enough; a disk too full for a copy leaves them."""
        (free,), (page,) = self.select_one("PRAGMA freelist_count"), self.select_one("PRAGMA page_size")
        with suppress(BuildError):
            if free * page >= _RECLAIM_BYTES:
                self.execute("VACUUM")
            self.checkpoint("TRUNCATE")

    def _prepare(self) -> None:
        if self._alone:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # keeps the shared index in memory
        self._db.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last rows, never the file
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        self._refuse_newer(version)
        self._switch_to_wal()
        self._db.create_function("sum_of", -1, plain_sum_of)
        # later, or in the same tick of the clock, anybody could have written rows that have no key
        is_ours = self._changed_ns < self.key.made_ns
        self._db.create_function("keyed_sum_of", -1, self.key.sum_of if is_ours else lambda *_row: "")
        with closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN EXCLUSIVE")
            (version,) = cursor.execute("PRAGMA user_version").fetchone()  # another process may have been first
            self._refuse_newer(version)
            for migration in MIGRATIONS[version:]:
                for statement in filter(str.strip, migration.split(";")):
                    cursor.execute(statement)
            cursor.execute(f"PRAGMA user_version={VERSION}")
            cursor.execute("COMMIT")

    def _refuse_newer(self, version: int) -> None:
        if version > VERSION:
            raise BuildError(
                f"{self.path}: written by a newer buildkit (schema {version}, this one supports {VERSION})",
                hint="upgrade buildkit, or use a separate cache: BUILDKIT_CACHE=/path",
            )

    def _switch_to_wal(self) -> None:
        """Enable WAL mode; retry, for SQLite does not wait here if other processes create the file at the same time."""
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


def _last_change_ns(path: Path) -> int:
    """Return when the file or its log was last changed (ctime, which only the kernel sets); 0 if there is none."""
    changed = 0
    for end in ("", "-wal"):
        with suppress(OSError):
            changed = max(changed, path.with_name(path.name + end).stat().st_ctime_ns)
    return changed


def _remove_stale_files(path: Path) -> None:
    """Remove SQLite's log and index of a ledger that was deleted; a running build may still be using them."""
    if path.exists():
        return
    with suppress(OSError), ExitStack() as stack:  # opening the file reports what is wrong
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists():  # no other process was faster
            for end in ("-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            path.touch(0o600)


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
        is_unclear = code & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
        if code & 0xFF == sqlite3.SQLITE_FULL or (is_unclear and is_disk_full(path.parent)):
            raise BuildError(f"{path}: the disk is full", hint=hints[sqlite3.SQLITE_FULL]) from error
        message = " ".join(str(error).split())  # it may quote the lines of a table's definition
        hint = hints.get(code & 0xFF, "is the disk full, or the file read-only? without it, layers are built again")
        raise BuildError(f"{path}: the ledger cannot be used: {message}", hint=hint) from error
