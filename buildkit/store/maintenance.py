"""The ledger, asked and tidied for upkeep: all that it knows of layers, wheels and downloads."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from buildkit.digest import FileHash, Key
from buildkit.errors import BuildError
from buildkit.oci.blob import Blob
from buildkit.store.build_history import find_recipe
from buildkit.store.database import SUMMED, sum_of
from buildkit.store.ledger import Layer, Ledger, StatKey, Tombstone, read_blobs

ROW_DAMAGED = "row damaged"  # how a tombstone begins
_DAY = 86400.0
_ROWS_DAYS = 180  # that a row outlives its blobs, unused
_FILES_DAYS = 90
_BUILDS = 200  # of each image
_AHEAD = 3600.0  # seconds from which a time in the future is a wrong one
_UNSIGNED = 1 << 64  # SQLite's integers have a sign, device and inode numbers have none
_WASTE = 1 << 20  # bytes of free pages that are worth writing the file anew


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """A layer that was made, whether or not its blobs are still there; ``seconds`` it took, made ``times`` times."""

    key: Key
    kind: str
    name: str
    blobs: tuple[Blob, ...]
    seconds: float
    built: float
    used: float
    times: int

    @property
    def unpacked(self) -> int:
        """Bytes of its tars."""
        return sum(blob.unpacked for blob in self.blobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelRow:
    """A wheel that was compiled here."""

    key: Key
    file: str
    sha256: FileHash
    seconds: float
    built: float
    used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRow:
    """A file that was downloaded."""

    sha256: FileHash
    name: str
    size: int
    seconds: float
    fetched: float
    used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part that a layer had in a build: it was ``built``, or taken from ``cache``, ``storage`` or ``shared``."""

    image: str
    started: float
    source: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """What tidying must leave although it looks old.

    ``present`` are keys (layers and wheels) whose files are there, ``needed`` those of the current stages, ``checked``
    their sets of layers, ``downloads`` those that are there, ``files`` what trees and models were hashed under.
    """

    present: Collection[Key]
    needed: Collection[Key]
    checked: Collection[Key]
    downloads: Collection[FileHash]
    files: Collection[StatKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A damaged row of ``table`` that was removed; a layer's has a name, and a key if that can still be read."""

    table: str
    name: str
    key: Key | None


class LedgerMaintenance:
    """What upkeep asks of a ledger, and does to it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def layers(self) -> tuple[LayerRow, ...]:
        """Every layer that is known."""
        rows = self._ledger.whole("layers", "", also="used")
        with self._ledger.decoding():
            return tuple(_layer_row(Layer(*row), used) for *row, used in rows)

    def wheels(self) -> tuple[WheelRow, ...]:
        """Every compiled wheel that is known."""
        rows = self._ledger.whole("wheels", "", also="used")
        with self._ledger.decoding():
            return tuple(
                WheelRow(key=Key(key), file=file, sha256=FileHash(hash_), seconds=took, built=built, used=float(used))
                for key, file, hash_, took, built, used in rows
            )

    def downloads(self) -> tuple[DownloadRow, ...]:
        """Every download that is known, also of files that were removed since."""
        rows = self._ledger.whole("downloads", "", also="used")
        with self._ledger.decoding():
            return tuple(
                DownloadRow(
                    sha256=FileHash(hash_), name=name, size=size, seconds=took, fetched=fetched, used=float(used)
                )
                for hash_, name, size, took, fetched, used in rows
            )

    def tombstones(self) -> dict[Key, Tombstone]:
        """What is said of all layers and compiled wheels that were taken away."""
        return {Key(key): Tombstone(why, at) for key, _name, why, at in self._ledger.whole("tombstones", "")}

    def drop_damaged(self) -> tuple[Dropped, ...]:
        """Remove the rows that were damaged, and say so of layers, for a build to say why it builds them anew."""
        found = [dropped for table in SUMMED for dropped in self._drop_damaged(table)]
        self.record_tombstones([(one.key, one.name) for one in found if one.key], f"{ROW_DAMAGED}, found by verify")
        return tuple(found)

    def _drop_damaged(self, table: str) -> Iterator[Dropped]:
        named = "key, name" if table == "layers" else "NULL, ''"
        query = f"SELECT {named}, CAST(sum AS BLOB), sum, {SUMMED[table]} FROM {table}"  # noqa: S608 - our own words
        for key, name, raw, total, *row in self._ledger.select(query):
            if total != sum_of(*row):
                with self._ledger.transaction():  # of a sum: the key may be what was damaged
                    self._ledger.write(f"DELETE FROM {table} WHERE CAST(sum AS BLOB) IS ?", (raw,))  # noqa: S608
                yield Dropped(table=table, name=str(name), key=_read_key(key))

    def recipe(self, key: Key) -> str:
        """The recipe of a layer or a compiled wheel, as JSON; empty for an unknown key."""
        found = find_recipe(self._ledger, key.hex)
        return found[1] if found else ""

    def parts(self, key: Key) -> tuple[Part, ...]:
        """Builds that a layer took part in (those that did something), the latest first."""
        parts = []
        builds = self._ledger.whole("builds", "WHERE instr(report, ?) ORDER BY id DESC", (str(key),))
        for _stage, image, _digest, started, _seconds, report in builds:
            with self._ledger.decoding():
                layers = [layer for layer in json.loads(report)["layers"] if layer["key"] == str(key)]
                parts += [Part(image=image, started=started, source=x["source"], why=x["why"]) for x in layers[:1]]
        return tuple(parts)

    def record_tombstones(self, graves: Iterable[tuple[Key, str]], why: str) -> None:
        """Say of layers and wheels (key, name), before or after their files are removed, that this is on purpose.

        It is on the disk when this returns. Said of one whose files are still there it means nothing.
        """
        rows = [(key.hex, name, why, time.time()) for key, name in graves]
        if rows:
            with self._ledger.transaction():
                for row in rows:
                    self._ledger.put("tombstones", row)
            self._checkpoint("FULL")

    def count_ahead(self, now: float) -> tuple[int, int]:
        """Layers that were used in the future, and all layers: of a clock that was set back, or was once ahead."""
        row = self._ledger.one("SELECT COALESCE(SUM(used > ?), 0), COUNT(*) FROM layers", (now + _AHEAD,))
        return row[0], row[1]

    def tidy(self, still: Still, now: float) -> dict[str, int]:
        """Forget what helps nobody any more, and give its room back; rows removed by table."""
        ahead, layers = self.count_ahead(now)
        with self._ledger.transaction():
            if 2 * ahead <= layers:  # else it is rather the clock that is wrong now
                for table in ("layers", "wheels", "downloads"):
                    self._ledger.write(f"UPDATE {table} SET used = ? WHERE used > ?", (now, now + _AHEAD))  # noqa: S608
            counts = {
                "layers": self._forget("layers", _old(now), {*still.present, *still.needed}),
                "wheels": self._forget("wheels", _old(now), {*still.present, *still.needed}),
                "tombstones": self._forget_tombstones(still, now),
                "downloads": self._forget_downloads(still.downloads, now),
                "files": self._forget_files(still.files, now),
                "builds": self._forget_builds(),
                "checked": self._forget_checked(still.checked),
                "verdicts": self._change("DELETE FROM verdicts WHERE used < ?", (_old(now),)),
                "checksums": self._change("DELETE FROM checksums WHERE used < ?", (_old(now),)),
                "natives": self._change("DELETE FROM natives WHERE at < ?", (_old(now),)),
                "starts": self._change("DELETE FROM starts WHERE at < ?", (_old(now),)),
            }
        self._give_back()
        return counts

    def check(self) -> tuple[str, ...]:
        """What SQLite finds wrong with the ledger's file; raises BuildError where it cannot be read at all."""
        return tuple(text for (text,) in self._ledger.select("PRAGMA quick_check") if text != "ok")

    def _forget(self, table: str, before: float, kept: Collection[Key]) -> int:
        rows = self._ledger.select(f"SELECT key FROM {table} WHERE used < ?", (before,))  # noqa: S608
        return self._delete(table, "key", _others(rows, kept))

    def _forget_downloads(self, kept: Collection[FileHash], now: float) -> int:
        rows = self._ledger.select("SELECT sha256 FROM downloads WHERE used < ?", (_old(now),))
        return self._delete("downloads", "sha256", _others(rows, kept))

    def _forget_tombstones(self, still: Still, now: float) -> int:
        """Those of what is there again, and of what nothing else is known of any more."""
        again = self._delete("tombstones", "key", [key.hex for key in still.present])
        query = (
            "DELETE FROM tombstones WHERE at < ? AND key NOT IN (SELECT key FROM layers UNION SELECT key FROM wheels)"
        )
        return again + self._change(query, (_old(now),))

    def _forget_files(self, kept: Collection[StatKey], now: float) -> int:
        query = "SELECT device, inode, size, mtime_ns, ctime_ns FROM files WHERE hashed_ns < ?"
        count = 0
        for device, inode, *rest in self._ledger.select(query, (int((now - _FILES_DAYS * _DAY) * 1e9),)):
            if StatKey(device % _UNSIGNED, inode % _UNSIGNED, *rest) not in kept:
                count += self._change("DELETE FROM files WHERE device = ? AND inode = ?", (device, inode))
        return count

    def _forget_builds(self) -> int:
        count = self._change(
            "DELETE FROM builds WHERE id IN (SELECT id FROM "
            "(SELECT id, ROW_NUMBER() OVER (PARTITION BY stage, image ORDER BY id DESC) AS n FROM builds) WHERE n > ?)",
            (_BUILDS,),
        )
        self._ledger.write("DELETE FROM phases WHERE build NOT IN (SELECT id FROM builds)")
        return count

    def _forget_checked(self, kept: Collection[Key]) -> int:
        rows = self._ledger.select("SELECT key FROM checked")
        return self._delete("checked", "key", _others(rows, kept))

    def _delete(self, table: str, column: str, values: Sequence[str]) -> int:
        query = f"DELETE FROM {table} WHERE {column} = ?"  # noqa: S608
        return sum(self._change(query, (value,)) for value in values)

    def _give_back(self) -> None:
        (free,), (page,) = self._ledger.one("PRAGMA freelist_count"), self._ledger.one("PRAGMA page_size")
        with suppress(BuildError):  # no room for a copy of the file: it stays as large as it is
            if free * page >= _WASTE:
                self._ledger.write("VACUUM")
            self._checkpoint("TRUNCATE")

    def _change(self, statement: str, values: tuple[object, ...]) -> int:
        """Run a statement; how many rows it changed."""
        self._ledger.write(statement, values)
        (count,) = self._ledger.one("SELECT changes()")
        return int(count)

    def _checkpoint(self, kind: str) -> None:
        self._ledger.select(f"PRAGMA wal_checkpoint({kind})")


def _layer_row(row: Layer, used: Any) -> LayerRow:  # noqa: ANN401 - what SQLite has
    return LayerRow(
        key=Key(row.key),
        kind=row.kind,
        name=row.name,
        blobs=read_blobs(row.blobs),
        seconds=row.seconds,
        built=row.built,
        used=float(used),
        times=row.times,
    )


def _others(rows: Iterable[tuple[str]], kept: Collection[Key] | Collection[FileHash]) -> list[str]:
    """Keys and hashes but those that are kept; of damaged rows they may be anything."""
    hexes = {one.hex for one in kept}
    return [text for (text,) in rows if text not in hexes]


def _read_key(key: Any) -> Key | None:  # noqa: ANN401 - what SQLite has
    with suppress(ValueError, TypeError):
        return Key(key)
    return None


def _old(now: float) -> float:
    return now - _ROWS_DAYS * _DAY
