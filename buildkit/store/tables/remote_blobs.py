"""The table ``remote``: blobs that a registry's repository is known to have."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from buildkit.digest import Digest
from buildkit.store.database import Database
from buildkit.store.tables.table import LedgerTable


class RemoteBlobRow(NamedTuple):
    """The summed columns, as they are stored."""

    repository: str
    digest: str
    seen: float


class RemoteBlobTable:
    """Rows of blobs by repository."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "remote", RemoteBlobRow)

    def add(self, repository: str, digests: Iterable[Digest]) -> None:
        """Record that a repository has blobs."""
        now = time.time()
        with self._table.database.transaction():
            for digest in digests:
                self._table.put(RemoteBlobRow(repository, digest.hex, now))

    def find(self, repository: str) -> frozenset[Digest]:
        """Return the blobs that a repository was seen to have."""
        return frozenset(Digest(row.digest) for row in self._table.find([repository]))

    def find_repository(self, host: str, digest: Digest) -> str:
        """Return the repository of a registry that was seen to have a blob last; empty for none."""
        rows = [row for row in self._table.select("WHERE digest = ?", (digest.hex,)) if _is_at(host, row)]
        return max(rows, key=lambda row: row.seen).repository if rows else ""


def _is_at(host: str, row: RemoteBlobRow) -> bool:
    return row.repository.startswith(f"{host}/")
