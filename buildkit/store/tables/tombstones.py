"""The table ``tombstones``: why the blobs of a layer, or the file of a compiled wheel, are not in the cache."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

from buildkit.digest import Key
from buildkit.lazy_dataclass import dataclass
from buildkit.store.database import Database
from buildkit.store.tables.table import LedgerTable


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The reason why files were removed, and the time (seconds since the epoch). It has no meaning while they exist."""

    why: str
    at: float


class TombstoneRow(NamedTuple):
    """The summed columns, as they are stored."""

    key: str
    name: str
    why: str
    at: float


class TombstoneTable:
    """Rows of tombstones by key."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "tombstones", TombstoneRow)

    def find(self, keys: Iterable[Key]) -> dict[Key, Tombstone]:
        """Return the tombstones of these layers."""
        return {Key(row.key): Tombstone(row.why, row.at) for row in self._table.find([key.hex for key in keys])}

    def all(self) -> dict[Key, Tombstone]:
        """Return every tombstone."""
        return {Key(row.key): Tombstone(row.why, row.at) for row in self._table.select()}

    def add(self, layers: Iterable[tuple[Key, str]], why: str) -> None:
        """Record tombstones of layers or wheels (key, name)."""
        now = time.time()
        for key, name in layers:
            self._table.put(TombstoneRow(key.hex, name, why, now))

    def delete(self, keys: Collection[Key]) -> int:
        """Delete the tombstones of these layers; return how many."""
        return self._table.delete([key.hex for key in keys])

    def delete_unreferenced(self, before: float) -> int:
        """Delete tombstones older than ``before`` of layers and wheels that have no row; return how many."""
        return self._table.database.execute(
            "DELETE FROM tombstones WHERE at < ? AND key NOT IN (SELECT key FROM layers UNION SELECT key FROM wheels)",
            (before,),
        )
