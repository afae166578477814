"""A table whose rows are named tuples of the columns that a row's sum covers (`schema.SUMMED`, in this order)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

from buildkit.store.database import Database, Values
from buildkit.store.schema import SUMMED

RowT = TypeVar("RowT", bound=tuple[Any, ...])
RETENTION_SECONDS = 180 * 86400.0  # how long a row outlives its files if it is not used
_TOUCH_SECONDS = 3600


class LedgerTable(Generic[RowT]):
    """Reads intact rows and writes rows with their sums; ``key`` is the first column."""

    def __init__(self, database: Database, name: str, row: Callable[..., RowT]) -> None:
        self.database = database
        self.name = name
        self.key = SUMMED[name].partition(",")[0]
        self._row = row

    def select(self, condition: str = "", values: Values = ()) -> list[RowT]:
        """Return the intact rows; ``condition`` as in `Database.select_intact`."""
        return [self._row(*row) for row in self.database.select_intact(self.name, condition, values)]

    def select_with_use(self, condition: str = "", values: Values = ()) -> list[tuple[RowT, float]]:
        """Return the intact rows, each with its last use, which the sum does not cover."""
        rows = self.database.select_intact(self.name, condition, values, extra="used")
        return [(self._row(*row), used) for *row, used in rows]

    def find(self, keys: Sequence[str]) -> list[RowT]:
        """Return the intact rows with these keys."""
        return self.select(f"WHERE {self.key} IN", tuple(keys))

    def put(self, row: RowT, **unsummed: object) -> None:
        """Insert a row, or replace the one with the same key."""
        self.database.put(self.name, row, **unsummed)

    def touch(self, keys: Sequence[str]) -> None:
        """Set the last use of rows to now, at most once an hour."""
        now = time.time()
        # Times in the future too: after a clock was set back they would stay unchanged until it catches up.
        query = (
            f"SELECT {self.key} FROM {self.name} "  # noqa: S608 - our own text
            f"WHERE (used < {now - _TOUCH_SECONDS} OR used > {now}) AND {self.key} IN"
        )
        for (key,) in self.database.select_in(query, keys):
            self.database.execute(f"UPDATE {self.name} SET used = ? WHERE {self.key} = ?", (now, key))  # noqa: S608

    def cap_last_use(self, limit: float, now: float) -> None:
        """Set the last use of rows to ``now`` if it is later than ``limit``."""
        self.database.execute(f"UPDATE {self.name} SET used = ? WHERE used > ?", (now, limit))  # noqa: S608

    def delete(self, keys: Sequence[str]) -> int:
        """Delete the rows with these keys; return how many."""
        statement = f"DELETE FROM {self.name} WHERE {self.key} = ?"  # noqa: S608
        return sum(self.database.execute(statement, (key,)) for key in keys)

    def delete_unused(self, before: float, kept: Collection[str]) -> int:
        """Delete rows that were last used earlier than ``before``, except those with ``kept`` keys; return how many."""
        rows = self.database.select(f"SELECT {self.key} FROM {self.name} WHERE used < ?", (before,))  # noqa: S608
        return self.delete([key for (key,) in rows if key not in kept])

    def delete_older(self, column: str, before: float) -> int:
        """Delete rows whose time in ``column`` is earlier than ``before``; return how many."""
        return self.database.execute(f"DELETE FROM {self.name} WHERE {column} < ?", (before,))  # noqa: S608


def is_recipe_of(key: str, recipe: object) -> bool:
    """Return whether a recipe hashes to the key, so that it is intact."""
    from buildkit.digest import Key

    return isinstance(recipe, str) and Key.of(recipe.encode()).hex == key
