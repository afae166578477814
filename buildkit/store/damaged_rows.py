"""Find and delete rows whose sum does not match, in every table that has sums."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from buildkit.digest import Key
from buildkit.store.database import Database
from buildkit.store.schema import SUMMED


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedRow:
    """A row of ``table`` that was deleted; a layer's has a name, and a key if the key is still readable."""

    table: str
    name: str
    key: Key | None


def delete_damaged_rows(database: Database) -> tuple[DamagedRow, ...]:
    """Delete the damaged rows of all tables, and return them."""
    return tuple(row for table in SUMMED for row in _delete(database, table))


def _delete(database: Database, table: str) -> Iterator[DamagedRow]:
    label = "key, name" if table == "layers" else "NULL, ''"
    query = f"SELECT {label}, CAST(sum AS BLOB), sum, {SUMMED[table]} FROM {table}"  # noqa: S608 - our own text
    for key, name, raw, total, *row in database.select(query):
        if total != database.key.sum_of(table, *row):
            with database.transaction():  # selected by its sum: the key may be what is damaged
                database.execute(f"DELETE FROM {table} WHERE CAST(sum AS BLOB) IS ?", (raw,))  # noqa: S608
            yield DamagedRow(table=table, name=str(name), key=_parse_key(key))


def _parse_key(key: Any) -> Key | None:  # noqa: ANN401 - what SQLite has
    with suppress(ValueError, TypeError):
        return Key(key)
    return None
