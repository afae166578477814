"""The tables ``natives`` and ``starts``: facts about native files in blobs, and findings about sets of layers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from buildkit.digest import Digest, Key
from buildkit.store.database import Database
from buildkit.store.tables.table import LedgerTable


class NativeRow(NamedTuple):
    """The summed columns of ``natives``, as they are stored; ``facts`` as `native.facts.encode_facts` writes them."""

    digest: str
    facts: bytes
    at: float


class StartRow(NamedTuple):
    """The summed columns of ``starts``, as they are stored; ``said`` is a JSON list of messages."""

    key: str
    said: str
    at: float


class NativeTable:
    """Facts about the native files of blobs, by digest."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "natives", NativeRow)

    def find(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """Return the facts of blobs."""
        return {Digest(row.digest): row.facts for row in self._table.find([digest.hex for digest in digests])}

    def find_equal(self, digests: Iterable[Digest], facts: bytes) -> frozenset[Digest]:
        """Return the blobs that have exactly these facts."""
        condition = f"WHERE facts = x'{facts.hex()}' AND digest IN"
        rows = self._table.select(condition, tuple(digest.hex for digest in digests))
        return frozenset(Digest(row.digest) for row in rows)

    def add(self, digest: Digest, facts: bytes) -> None:
        """Record the facts of a blob."""
        self._table.put(NativeRow(digest.hex, facts, time.time()))

    def delete_older(self, before: float) -> int:
        """Delete facts older than ``before``; return how many."""
        return self._table.delete_older("at", before)


class StartTable:
    """Findings about sets of layers that may not start, by the key of layers and config."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "starts", StartRow)

    def find(self, key: Key) -> tuple[str, ...] | None:
        """Return the findings of a check; None if there was none, or its row cannot be parsed."""
        with suppress(ValueError):
            for row in self._table.find([key.hex]):
                lines = json.loads(row.said)
                return tuple(str(line) for line in lines) if isinstance(lines, list) else None
        return None

    def add(self, key: Key, lines: Sequence[str]) -> None:
        """Record the findings of a check."""
        self._table.put(StartRow(key.hex, json.dumps(lines), time.time()))

    def delete_older(self, before: float) -> int:
        """Delete findings older than ``before``; return how many."""
        return self._table.delete_older("at", before)
