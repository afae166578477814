"""Maintain the ledger: record why files were removed, delete damaged and outdated rows, and reclaim disk space."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from buildkit.digest import FileHash, Key
from buildkit.store.damaged_rows import DamagedRow, delete_damaged_rows
from buildkit.store.ledger import Ledger
from buildkit.store.tables.files import StatKey
from buildkit.store.tables.table import RETENTION_SECONDS

ROW_DAMAGED = "row damaged"  # how a tombstone begins
_FILES_SECONDS = 90 * 86400.0
_FUTURE_SECONDS = 3600.0  # a time further in the future than this is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedRows:
    """Rows that pruning keeps although they look outdated.

    ``present`` are keys (layers and wheels) whose files exist, ``needed`` those of the current stages, ``checked``
    their sets of layers, ``downloads`` the hashes of existing downloads, ``files`` the stats of the checkout's files.
    """

    present: Collection[Key]
    needed: Collection[Key]
    checked: Collection[Key]
    downloads: Collection[FileHash]
    files: Collection[StatKey]


class LedgerMaintenance:
    """The changes that gc, verify and a build that finds damage make to a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def delete_damaged_rows(self) -> tuple[DamagedRow, ...]:
        """Delete damaged rows; tombstones of layers let the next build say why it builds them."""
        rows = delete_damaged_rows(self._ledger.database)
        self.record_tombstones([(row.key, row.name) for row in rows if row.key], f"{ROW_DAMAGED}, found by verify")
        return rows

    def record_tombstones(self, layers: Iterable[tuple[Key, str]], why: str) -> None:
        """Record why the files of layers and wheels (key, name) are removed, before or after they are.

        The tombstones are on the disk when this returns. One whose files still exist has no meaning.
        """
        listed = list(layers)
        if listed:
            with self._ledger.database.transaction():
                self._ledger.tombstones.add(listed, why)
            self._ledger.database.checkpoint("FULL")

    def count_used_in_future(self, now: float) -> tuple[int, int]:
        """Return how many layers were last used in the future, and how many there are.

        The clock was set back, or was ahead once.
        """
        return self._ledger.layers.count_used_after(now + _FUTURE_SECONDS)

    def prune(self, retained: RetainedRows, now: float) -> dict[str, int]:
        """Delete outdated rows and reclaim their space; return the number of deleted rows by table."""
        future, layers = self.count_used_in_future(now)
        with self._ledger.database.transaction():
            if 2 * future <= layers:  # otherwise the clock is more likely to be wrong now
                for table in (self._ledger.layers, self._ledger.wheels, self._ledger.downloads):
                    table.cap_last_use(now + _FUTURE_SECONDS, now)
            counts = self._delete_outdated(retained, now)
        self._ledger.database.reclaim_space()
        return counts

    def _delete_outdated(self, retained: RetainedRows, now: float) -> dict[str, int]:
        ledger, limit = self._ledger, now - RETENTION_SECONDS
        kept = {*retained.present, *retained.needed}
        return {
            "layers": ledger.layers.delete_unused(limit, kept),
            "wheels": ledger.wheels.delete_unused(limit, kept),
            "tombstones": ledger.tombstones.delete(retained.present) + ledger.tombstones.delete_unreferenced(limit),
            "downloads": ledger.downloads.delete_unused(limit, retained.downloads),
            "files": ledger.files.delete_hashed_before(int((now - _FILES_SECONDS) * 1e9), retained.files),
            "builds": ledger.builds.delete_old(),
            "checked": ledger.collision_checks.delete_except(retained.checked),
            "verdicts": ledger.verdicts.delete_unused(limit),
            "checksums": ledger.checksums.delete_unused(limit),
            "natives": ledger.natives.delete_older(limit),
            "starts": ledger.starts.delete_older(limit),
            "derivations": ledger.derivations.delete_older(limit),
        }
