"""The table ``derivations``: what was measured of derived models on this host."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from buildkit.digest import Key
from buildkit.store.database import Database
from buildkit.store.tables.table import LedgerTable


class DerivationRow(NamedTuple):
    """The summed columns, as they are stored; ``report`` is JSON (plan/derive_report.py)."""

    key: str
    report: str
    at: float


class DerivationTable:
    """Reports by the key of a derivation."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "derivations", DerivationRow)

    def find(self, key: Key) -> tuple[Mapping[str, Any], float] | None:
        """Return the report of a derivation and its time; None if there is none, or it cannot be parsed."""
        with suppress(ValueError):
            for row in self._table.find([key.hex]):
                report = json.loads(row.report)
                return (report, row.at) if isinstance(report, dict) else None
        return None

    def add(self, key: Key, report: Mapping[str, Any]) -> None:
        """Record a report."""
        self._table.put(DerivationRow(key.hex, json.dumps(report, sort_keys=True), time.time()))

    def delete_older(self, before: float) -> int:
        """Delete reports older than ``before``; return how many."""
        return self._table.delete_older("at", before)
