"""The table ``wheels``: wheels that were compiled here from sdists and source trees."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from buildkit.digest import FileHash, Key
from buildkit.store.database import Database
from buildkit.store.tables.table import LedgerTable, is_recipe_of


class WheelRow(NamedTuple):
    """The summed columns, as they are stored; ``file`` is the wheel's file name."""

    key: str
    file: str
    sha256: str
    seconds: float
    built: float


class RecordedWheel(NamedTuple):
    """A compiled wheel, whether or not its file still exists."""

    key: Key
    file: str
    sha256: FileHash
    seconds: float
    built: float
    used: float


class WheelTable:
    """Rows of compiled wheels by key."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "wheels", WheelRow)

    def find(self, key: Key) -> tuple[str, FileHash] | None:
        """Return file name and hash of a compiled wheel."""
        return next(((row.file, FileHash(row.sha256)) for row in self._table.find([key.hex])), None)

    def all(self) -> tuple[RecordedWheel, ...]:
        """Return every recorded wheel."""
        with self._table.database.decoding():
            return tuple(
                RecordedWheel(
                    key=Key(row.key),
                    file=row.file,
                    sha256=FileHash(row.sha256),
                    seconds=row.seconds,
                    built=row.built,
                    used=float(used),
                )
                for row, used in self._table.select_with_use()
            )

    def add(self, key: Key, recipe: str, file: str, sha256: FileHash, seconds: float) -> None:
        """Record a compiled wheel."""
        now = time.time()
        self._table.put(WheelRow(key.hex, file, sha256.hex, float(seconds), now), recipe=recipe, used=now)

    def recipe(self, key: str) -> str | None:
        """Return the recipe of a wheel; None if there is none, or it is damaged."""
        row = self._table.database.select_one("SELECT recipe FROM wheels WHERE key = ?", (key,))
        return row[0] if row and is_recipe_of(key, row[0]) else None

    def touch(self, keys: Sequence[Key]) -> None:
        """Record the use of wheels, at most once an hour."""
        self._table.touch([key.hex for key in keys])

    def cap_last_use(self, limit: float, now: float) -> None:
        """Set the last use of wheels to ``now`` if it is later than ``limit``."""
        self._table.cap_last_use(limit, now)

    def delete_unused(self, before: float, kept: Collection[Key]) -> int:
        """Delete wheels that were last used earlier than ``before``, except ``kept`` ones; return how many."""
        return self._table.delete_unused(before, {key.hex for key in kept})
