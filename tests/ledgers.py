"""Write to ledgers in tests: layers without a spec, and rows that pass for intact after a change."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from buildkit.digest import Key
from buildkit.store.ledger_key import ensure_ledger_key
from buildkit.store.schema import SUMMED


class LayerId(NamedTuple):
    """The identity of a layer in the ledger."""

    key: Key
    kind: str
    name: str
    recipe: str


def update_checksums(path: Path) -> None:
    """Give every row the sum of its present values, as if they had been written by buildkit."""
    with closing(sqlite3.connect(path)) as db, db:
        db.create_function("sum_of", -1, ensure_ledger_key().sum_of)
        for table, columns in SUMMED.items():
            db.execute(f"UPDATE {table} SET sum = sum_of('{table}', {columns})")
