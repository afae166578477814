"""The tables of the stat index (store/stat_index.py): ``files``, hashes by stat, and ``listings``, many in one row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from buildkit.digest import FileHash
from buildkit.store.database import Database

_HEX = 64  # the length of a hash
_UNSIGNED = 1 << 64  # SQLite's integers are signed; device and inode numbers are not

Stat = tuple[int, ...]  # the fields of a `StatKey`


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


class ListingRow(NamedTuple):
    """The summed columns: place, a hash of all stats, when the last file was hashed, the hashes one after another."""

    place: str
    stats: str
    hashed_ns: int
    hashes: str


class FileTable:
    """Rows of hashed files by device and inode, and listings: what the rows of many files say, by their place."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, stat: StatKey) -> tuple[FileHash, int] | None:
        """Return the hash of a file with this stat, and when its hashing began (ns since the epoch)."""
        return self.find_all([stat]).get(stat)

    def find_all(self, stats: Iterable[StatKey]) -> dict[StatKey, tuple[FileHash, int]]:
        """Return what `find` returns, of those that are known, by one query for a device."""
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

    def find_listing(self, place: str, stats: Sequence[Stat]) -> tuple[list[FileHash], int] | None:
        """Return the hashes of the files of a listing, if they have these stats, and when the last was hashed."""
        condition = "WHERE place = ? AND stats = ?"
        for *_, hashed_ns, hashes in self._database.select_intact("listings", condition, (place, _digest(stats))):
            return [FileHash(hashes[at : at + _HEX]) for at in range(0, len(hashes), _HEX)], hashed_ns
        return None

    def add_listing(self, place: str, stats: Sequence[Stat], hashes: Iterable[FileHash], hashed_ns: int) -> None:
        """Record what the rows of files say, all of which are believed from ``hashed_ns`` on."""
        row = ListingRow(place, _digest(stats), hashed_ns, "".join(one.hex for one in hashes))
        self._database.put("listings", row)

    def add(self, stat: StatKey, sha256: FileHash, hashed_ns: int) -> None:
        """Record the hash of a file."""
        self.add_all([(stat, sha256, hashed_ns)])

    def add_all(self, hashed: Iterable[tuple[StatKey, FileHash, int]]) -> None:
        """Record the hashes of files, all or none, and delete the listings that may hold others for the same stats."""
        rows = list(hashed)
        oldest = min(stat.ctime_ns for stat, _, _ in rows)  # what is believed was changed before it was hashed
        with self._database.transaction():
            self._database.execute("DELETE FROM listings WHERE hashed_ns > ?", (oldest,))
            for stat, sha256, hashed_ns in rows:
                place = (_signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns)
                self._database.put("files", FileRow(*place, sha256.hex, hashed_ns))

    def delete_hashed_before(self, limit_ns: int, kept: Collection[StatKey]) -> int:
        """Delete files that were hashed earlier than ``limit_ns``, except ``kept`` ones; return how many."""
        query = "SELECT device, inode, size, mtime_ns, ctime_ns FROM files WHERE hashed_ns < ?"
        count = 0
        self._database.execute("DELETE FROM listings WHERE hashed_ns < ?", (limit_ns,))
        for device, inode, *rest in self._database.select(query, (limit_ns,)):
            if StatKey(device % _UNSIGNED, inode % _UNSIGNED, *rest) not in kept:
                statement = "DELETE FROM files WHERE device = ? AND inode = ?"
                count += self._database.execute(statement, (device, inode))
        return count


def _digest(stats: Sequence[Stat]) -> str:
    return hashlib.sha256(str(stats).encode()).hexdigest()


def _signed(number: int) -> int:
    """Map an unsigned 64-bit number, as some file systems' inode numbers are, to SQLite's signed ones."""
    return number - _UNSIGNED if number >= 1 << 63 else number
