"""The tables ``verdicts`` and ``checksums``: scans of model files by content and rules, and their SHA-512 checksums."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from buildkit.digest import FileHash
from buildkit.store.database import Database
from buildkit.store.tables.table import LedgerTable

_TOUCH_SECONDS = 86400


class VerdictRow(NamedTuple):
    """The summed columns of ``verdicts``, as they are stored; ``scan`` is JSON (store/scan_verdicts.py)."""

    sha256: str
    rules: str
    scan: str
    seconds: float
    scanned: float


class ChecksumRow(NamedTuple):
    """The summed columns of ``checksums``, as they are stored."""

    sha256: str
    sha512: str


class VerdictTable:
    """Scans by content and by the version of the rules."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "verdicts", VerdictRow)

    def find(self, hashes: Iterable[FileHash], rules: str) -> list[VerdictRow]:
        """Return the verdicts on these contents, and record their use, at most once a day."""
        rows = self._table.select_with_use("WHERE sha256 IN", tuple(sha256.hex for sha256 in hashes))
        now, found = time.time(), []
        for row, used in rows:
            if row.rules != rules:
                continue
            if not (isinstance(used, float) and 0 <= now - used < _TOUCH_SECONDS):
                statement = "UPDATE verdicts SET used = ? WHERE sha256 = ? AND rules = ?"
                self._table.database.execute(statement, (now, row.sha256, rules))
            found.append(row)
        return found

    def add(self, sha256: FileHash, rules: str, scan: str, seconds: float) -> None:
        """Record a scan that took ``seconds``."""
        now = time.time()
        self._table.put(VerdictRow(sha256.hex, rules, scan, float(seconds), now), used=now)

    def delete_unused(self, before: float) -> int:
        """Delete verdicts that were last used earlier than ``before``; return how many."""
        return self._table.delete_older("used", before)


class ChecksumTable:
    """SHA-512 checksums by SHA-256."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "checksums", ChecksumRow)

    def find(self, sha256: FileHash) -> str:
        """Return the SHA-512 checksum of a content as hexadecimal digits; empty if it is unknown."""
        return next((str(row.sha512) for row in self._table.find([sha256.hex])), "")

    def add(self, sha256: FileHash, sha512: str) -> None:
        """Record a checksum."""
        self._table.put(ChecksumRow(sha256.hex, sha512), used=time.time())

    def delete_unused(self, before: float) -> int:
        """Delete checksums that were last used earlier than ``before``; return how many."""
        return self._table.delete_older("used", before)
