"""The table ``checked``: sets of layers that have no path collisions."""

from __future__ import annotations

from collections.abc import Collection

from buildkit.digest import Key
from buildkit.store.database import Database


class CollisionCheckTable:
    """Sets of layers. A row is nothing but the keyed sum of the set's key, so that nobody else can write it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def has(self, key: Key) -> bool:
        """Return whether this set of layers was found free of collisions."""
        return self._database.select_one("SELECT 1 FROM checked WHERE key = ?", (self._sum(key),)) is not None

    def add(self, key: Key) -> None:
        """Record that a set of layers is free of collisions."""
        self._database.execute("INSERT OR IGNORE INTO checked VALUES (?)", (self._sum(key),))

    def delete_except(self, kept: Collection[Key]) -> int:
        """Delete all sets but the ``kept`` ones; return how many."""
        sums = set(map(self._sum, kept))
        rows = self._database.select("SELECT key FROM checked")
        statement = "DELETE FROM checked WHERE key = ?"
        return sum(self._database.execute(statement, (key,)) for (key,) in rows if key not in sums)

    def _sum(self, key: Key) -> str:
        return self._database.key.sum_of("checked", key.hex)
