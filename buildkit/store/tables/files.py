"""The table ``files``: hashes of files by their stat, which the stat index (store/stat_index.py) relies on."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import NamedTuple

from buildkit.digest import FileHash
from buildkit.store.database import Database

_UNSIGNED = 1 << 64  # SQLite's integers are signed; device and inode numbers are not


class StatKey(NamedTuple):
    """The fields of a file's stat that change when another file takes its path, or its content changes."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class FileRow(NamedTuple):
    """The summed columns, as they are stored: device and inode are signed, ``hashed_ns`` is when hashing began."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str
    hashed_ns: int


class FileTable:
    """Rows of hashed files by device and inode."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, stat: StatKey) -> tuple[FileHash, int] | None:
        """Return the hash of a file with this stat, and when its hashing began (ns since the epoch)."""
        place = (_signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns)
        row = self._database.select_one(
            "SELECT sum, sha256, hashed_ns FROM files "
            "WHERE device=? AND inode=? AND size=? AND mtime_ns=? AND ctime_ns=?",
            place,
        )
        if row is None:
            return None
        total, sha256, hashed_ns = row
        return (
            (FileHash(sha256), hashed_ns)
            if total == self._database.key.sum_of("files", *place, sha256, hashed_ns)
            else None
        )

    def find_all(self, stats: Iterable[StatKey]) -> dict[StatKey, tuple[FileHash, int]]:
        """Return what `find` returns, of those that are known; one query a device."""
        asked: dict[int, dict[int, StatKey]] = {}  # by device and inode, of which one stat at a time is true
        for stat in stats:
            asked.setdefault(stat.device, {})[stat.inode] = stat
        found = {}
        for device, by_inode in asked.items():
            condition = "WHERE device = ? AND inode IN (SELECT value FROM json_each(?))"
            numbers = json.dumps(list(map(_signed, by_inode)))
            rows = self._database.select_intact("files", condition, (_signed(device), numbers))
            for _, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns in rows:
                stat = by_inode[inode % _UNSIGNED]
                if (size, mtime_ns, ctime_ns) == stat[2:]:
                    found[stat] = FileHash(sha256), hashed_ns
        return found

    def add(self, stat: StatKey, sha256: FileHash, hashed_ns: int) -> None:
        """Record the hash of a file."""
        place = (_signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns)
        self._database.put("files", FileRow(*place, sha256.hex, hashed_ns))

    def add_all(self, hashed: Iterable[tuple[StatKey, FileHash, int]]) -> None:
        """Record the hashes of many files, all or none."""
        rows = list(hashed)
        if len(rows) < 2:  # a row is written whole, anyway
            for row in rows:
                self.add(*row)
            return
        with self._database.transaction():
            for row in rows:
                self.add(*row)

    def delete_hashed_before(self, limit_ns: int, kept: Collection[StatKey]) -> int:
        """Delete files that were hashed earlier than ``limit_ns``, except ``kept`` ones; return how many."""
        query = "SELECT device, inode, size, mtime_ns, ctime_ns FROM files WHERE hashed_ns < ?"
        count = 0
        for device, inode, *rest in self._database.select(query, (limit_ns,)):
            if StatKey(device % _UNSIGNED, inode % _UNSIGNED, *rest) not in kept:
                statement = "DELETE FROM files WHERE device = ? AND inode = ?"
                count += self._database.execute(statement, (device, inode))
        return count


def _signed(number: int) -> int:
    """Map an unsigned 64-bit number, as some file systems' inode numbers are, to SQLite's signed ones."""
    return number - _UNSIGNED if number >= 1 << 63 else number
