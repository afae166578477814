"""The table ``layers``: the blobs, owned paths and build times of every recipe that was built or fetched."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from buildkit.digest import DiffId, Digest, Key, canonical_json
from buildkit.layers.path_prefixes import path_prefixes_of
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.toc import Toc
from buildkit.oci.blob import Blob, LayerResult
from buildkit.store.database import Database
from buildkit.store.tables.table import LedgerTable, is_recipe_of

_SAMPLE = 400  # rows that a median is taken of


class LayerRow(NamedTuple):
    """The summed columns, as they are stored: ``blobs``, ``config`` and ``claims`` (path prefixes) are JSON."""

    key: str
    kind: str
    name: str
    blobs: str
    config: str
    seconds: float
    built: float
    times: int
    claims: str


class RecordedLayer(NamedTuple):
    """A layer that was built ``times`` times, the last time in ``seconds``, whether or not its blobs still exist."""

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


class LayerIdentity(Protocol):
    """The identity of a recorded layer: its key, the recipe that hashes to the key, its kind and its name."""

    @property
    def key(self) -> Key: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def recipe(self) -> str: ...  # noqa: D102


class LayerTable:
    """Rows of layers by key."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "layers", LayerRow)
        self._database = database

    def find(self, keys: Iterable[Key]) -> dict[Key, LayerResult]:
        """Return the recorded layers of these keys."""
        with self._database.decoding():
            return {
                Key(row.key): LayerResult(blobs=_parse_blobs(row.blobs), seconds=row.seconds, config=row.config)
                for row in self._table.find([key.hex for key in keys])
            }

    def all(self) -> tuple[RecordedLayer, ...]:
        """Return every recorded layer."""
        with self._database.decoding():
            return tuple(
                RecordedLayer(
                    key=Key(row.key),
                    kind=row.kind,
                    name=row.name,
                    blobs=_parse_blobs(row.blobs),
                    seconds=row.seconds,
                    built=row.built,
                    used=float(used),
                    times=row.times,
                )
                for row, used in self._table.select_with_use()
            )

    def is_damaged(self, key: Key) -> bool:
        """Return whether there is a row of a layer, but not an intact one."""
        query = "SELECT 1 FROM layers WHERE key = ?"
        return not self._table.find([key.hex]) and self._database.select_one(query, (key.hex,)) is not None

    def put(
        self, layer: LayerIdentity, result: LayerResult, listing: bytes, prefixes: Sequence[str] | None, *, built: bool
    ) -> None:
        """Record a layer; ``listing`` as of `pack_listing`, or empty; ``prefixes`` are None if they are not known.

        Unless it was ``built`` here, the seconds and the count of earlier builds here stay.
        """
        before = next((row for row in self._table.find([layer.key.hex]) if row.times), None)
        now = time.time()
        row = LayerRow(
            key=layer.key.hex,
            kind=layer.kind,
            name=layer.name,
            blobs=_format_blobs(result.blobs),
            config=result.config,
            seconds=before.seconds if before and not built else float(result.seconds),
            built=now,
            times=built + (before.times if before else 0),
            claims="" if prefixes is None else json.dumps(prefixes),
        )
        self._table.put(row, recipe=layer.recipe, contents=self._seal(layer.key, listing), used=now)

    def replace_blobs(self, key: Key, result: LayerResult) -> None:
        """Record other blobs of the same tars for a layer, if it is recorded."""
        with self._database.transaction():
            for row in self._table.find([key.hex]):
                known = row._replace(blobs=_format_blobs(result.blobs))
                query = "UPDATE layers SET blobs = ?, sum = ? WHERE key = ?"
                self._database.execute(query, (known.blobs, self._database.key.sum_of("layers", *known), known.key))

    def delete(self, key: Key) -> None:
        """Delete the row of a layer."""
        self._table.delete([key.hex])

    def contents(self, key: Key) -> list[tuple[str, str]] | None:
        """Return the listing of a layer; None if it is not known."""
        row = self._database.select_one("SELECT contents FROM layers WHERE key = ?", (key.hex,))
        listing = self._database.key.unseal("layers", key.hex, row[0]) if row else None
        if not listing:
            return None
        with self._database.decoding():
            return [(path, content) for path, content in json.loads(zlib.decompress(listing))]

    def add_contents(self, key: Key, contents: Sequence[tuple[str, str]]) -> None:
        """Record the listing of a layer that had none, and the path prefixes if they were not known either."""
        sealed = self._seal(key, pack_listing(contents))
        with self._database.transaction():
            self._database.execute("UPDATE layers SET contents = ? WHERE key = ?", (sealed, key.hex))
            for row in self._table.find([key.hex]):
                if not row.claims:
                    known = row._replace(claims=json.dumps(path_prefixes_of(contents)))
                    query = "UPDATE layers SET claims = ?, sum = ? WHERE key = ?"
                    total = self._database.key.sum_of("layers", *known)
                    self._database.execute(query, (known.claims, total, known.key))

    def _seal(self, key: Key, listing: bytes) -> bytes:
        return self._database.key.seal("layers", key.hex, listing)

    def path_prefixes(self, keys: Iterable[Key]) -> dict[Key, tuple[str, ...]]:
        """Return the path prefixes (layers/path_prefixes.py) of those layers of which they are known."""
        with self._database.decoding():
            return {Key(row.key): _texts(row.claims) for row in self._table.find([k.hex for k in keys]) if row.claims}

    def recipe(self, key: str) -> tuple[str, str] | None:
        """Return name and recipe of a layer; None if there is none, or the recipe is damaged."""
        row = self._database.select_one("SELECT name, recipe FROM layers WHERE key = ?", (key,))
        return (str(row[0]), row[1]) if row and is_recipe_of(key, row[1]) else None

    def recipes(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the intact recipes of layers, by key."""
        rows = self._database.select_in("SELECT key, recipe FROM layers WHERE key IN", keys)
        return {key: recipe for key, recipe in rows if is_recipe_of(key, recipe)}

    def built_times(self, keys: Iterable[str]) -> dict[str, float]:
        """Return the time of the last build here by key; layers that were never built here are absent."""
        rows = self._table.select("WHERE times > 0 AND key IN", tuple(sorted(keys)))
        return {row.key: row.built for row in rows}

    def build_times(self) -> list[tuple[str, int, float]]:
        """Return kind, unpacked bytes and seconds of recently built layers.

        Another machine's seconds count only for kinds that were never built here.
        """
        rows = self._table.select(
            "WHERE seconds > 0 AND (times > 0 OR kind NOT IN (SELECT kind FROM layers WHERE times > 0 AND seconds > 0))"
            " ORDER BY built DESC LIMIT ?",
            (_SAMPLE,),
        )
        with self._database.decoding():
            return [(row.kind, sum(blob.unpacked for blob in _parse_blobs(row.blobs)), row.seconds) for row in rows]

    def touch(self, keys: Sequence[Key]) -> None:
        """Record the use of layers, at most once an hour."""
        self._table.touch([key.hex for key in keys])

    def cap_last_use(self, limit: float, now: float) -> None:
        """Set the last use of layers to ``now`` if it is later than ``limit``."""
        self._table.cap_last_use(limit, now)

    def count_used_after(self, limit: float) -> tuple[int, int]:
        """Return how many layers were last used later than ``limit``, and how many there are."""
        row = self._database.select_one("SELECT COALESCE(SUM(used > ?), 0), COUNT(*) FROM layers", (limit,))
        return row[0], row[1]

    def delete_unused(self, before: float, kept: Collection[Key]) -> int:
        """Delete layers that were last used earlier than ``before``, except ``kept`` ones; return how many."""
        return self._table.delete_unused(before, {key.hex for key in kept})


def pack_listing(contents: Sequence[tuple[str, str]]) -> bytes:
    """Compress a listing for the column ``contents``."""
    return zlib.compress(canonical_json(contents).encode(), 1)


def _format_blobs(blobs: Iterable[Blob]) -> str:
    return json.dumps([blob.to_row() for blob in blobs])


def _parse_blobs(text: str) -> tuple[Blob, ...]:
    """Parse the column ``blobs``: the rows of each, lowest first (`Blob.to_row`)."""
    return tuple(
        Blob(
            digest=Digest(digest),
            diff_id=DiffId(diff_id),
            size=size,
            unpacked=unpacked,
            compression=Compression(how),
            toc=Toc.parse(*toc) if toc else None,
        )
        for digest, diff_id, size, unpacked, how, *toc in json.loads(text)
    )


def _texts(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
