"""The table ``downloads``: files that were fetched."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from buildkit.digest import FileHash
from buildkit.store.database import Database
from buildkit.store.tables.table import LedgerTable

_SAMPLE = 400  # rows that a median is taken of


class DownloadRow(NamedTuple):
    """The summed columns, as they are stored."""

    sha256: str
    name: str
    size: int
    seconds: float
    fetched: float


class RecordedDownload(NamedTuple):
    """A file that was downloaded, whether or not it still exists."""

    sha256: FileHash
    name: str
    size: int
    seconds: float
    fetched: float
    used: float


class DownloadTable:
    """Rows of downloads by hash."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "downloads", DownloadRow)

    def all(self) -> tuple[RecordedDownload, ...]:
        """Return every recorded download."""
        with self._table.database.decoding():
            return tuple(
                RecordedDownload(
                    sha256=FileHash(row.sha256),
                    name=row.name,
                    size=row.size,
                    seconds=row.seconds,
                    fetched=row.fetched,
                    used=float(used),
                )
                for row, used in self._table.select_with_use()
            )

    def add(self, sha256: FileHash, name: str, size: int, seconds: float) -> None:
        """Record a file that was fetched in ``seconds``."""
        now = time.time()
        self._table.put(DownloadRow(sha256.hex, name, size, float(seconds), now), used=now)

    def fetch_times(self) -> list[tuple[int, float]]:
        """Return bytes and seconds of recent downloads."""
        return [(row.size, row.seconds) for row in self._table.select("ORDER BY fetched DESC LIMIT ?", (_SAMPLE,))]

    def touch(self, hashes: Sequence[FileHash]) -> None:
        """Record the use of downloads, at most once an hour."""
        self._table.touch([sha256.hex for sha256 in hashes])

    def cap_last_use(self, limit: float, now: float) -> None:
        """Set the last use of downloads to ``now`` if it is later than ``limit``."""
        self._table.cap_last_use(limit, now)

    def delete_unused(self, before: float, kept: Collection[FileHash]) -> int:
        """Delete downloads that were last used earlier than ``before``, except ``kept`` ones; return how many."""
        return self._table.delete_unused(before, {sha256.hex for sha256 in kept})
