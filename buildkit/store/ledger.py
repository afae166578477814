"""The ledger: what was made from which recipe.

Tables (schema version 5); those with a star have a sum by which a damaged row is known (store/database.py):

    layers *    key, kind, name, recipe (JSON), blobs (JSON), env (JSON), contents (zlib JSON), seconds, built, used,
                times          how often it was built; a row outlives its blobs, so that what was evicted is known
                claims (JSON)          path prefixes (path_prefixes.py); contents are empty if only those are known
    wheels *    key, recipe, file, sha256, seconds, built, used          compiled from sdists and trees
    downloads * sha256, name, size, seconds, fetched, used
    files *     device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns          the stat index
    builds *    id, stage, image, digest, started, seconds, report (JSON of the report)
    phases      build, name, seconds, cpu (seconds), read, written (bytes)
    tombstones* key, name, why, at          layers whose blobs were taken away on purpose, until they are built again
    checked     key          sets of layers that were found free of collisions
    remote *    repository, digest, seen          blobs that a registry has
    verdicts *  sha256, rules, scan (JSON), seconds, scanned, used          of model files (store/scan_verdicts.py)
    checksums * sha256, sha512, used          of files that were scanned
    natives *   digest, facts (zlib JSON), at          native files of blobs (store/native_facts.py)
    starts *    key, said (JSON), at          what was said of sets of layers that may not start

Times are seconds since the epoch. A row is written after the blobs it names are on the disk.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from buildkit.digest import DiffId, Digest, FileHash, Key, canonical_json
from buildkit.layers.path_prefixes import claims_of
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.store.database import Database, sum_of

_TOUCH_SECONDS = 3600
_RECENT = 400  # rows that a median is taken of


@dataclass(frozen=True, slots=True)
class StatKey:
    """What tells that a file is still the one that was hashed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Why a layer's blobs were taken away, and when (seconds since the epoch)."""

    why: str
    at: float


class Layer(NamedTuple):
    """The columns of a layer that are believed, as they are stored."""

    key: str
    kind: str
    name: str
    blobs: str
    env: str
    seconds: float
    built: float
    times: int
    claims: str


class Ledger(Database):
    """What builds write down and look up."""

    def find(self, keys: Iterable[Key]) -> dict[Key, LayerResult]:
        """What is known of these keys."""
        with self.decoding():
            return {
                Key(row.key): LayerResult(blobs=read_blobs(row.blobs), seconds=row.seconds, env=_texts(row.env))
                for row in self._layers(keys)
            }

    def is_damaged(self, key: Key) -> bool:
        """Whether there is a row of a layer, but none to be believed."""
        return not self._layers([key]) and self.one("SELECT 1 FROM layers WHERE key = ?", (key.hex,)) is not None

    def _layers(self, keys: Iterable[Key]) -> list[Layer]:
        return [Layer(*row) for row in self.whole("layers", "WHERE key IN", tuple(key.hex for key in keys))]

    def add(
        self, key: Key, kind: str, name: str, recipe: str, made: LayerResult, contents: Sequence[tuple[str, str]]
    ) -> None:
        """Record what a recipe came to; its blobs are on the disk already. ``contents`` lists owned paths."""
        listing = zlib.compress(canonical_json(contents).encode(), 1)
        claims = json.dumps(claims_of(path for path, _ in contents))
        self._add(key, (kind, name, recipe), made, listing, claims, built=1)

    def add_shared(
        self,
        key: Key,
        kind: str,
        name: str,
        recipe: str,
        made: LayerResult,
        claims: Sequence[str],
        *,
        only_at: str = "",
    ) -> None:
        """Record what another machine made of a recipe; its paths are known by their claims alone.

        ``only_at`` names the registry's repository while the blobs are not here.
        """
        self._add(key, (kind, name, recipe), made, b"", json.dumps(claims), built=0)
        if only_at:
            stone = (key.hex, name, f"shared, {only_at}", time.time())
            self.put("tombstones", stone)

    def forget_shared(self, key: Key) -> None:
        """What another machine was said to have made of a recipe is not to be had: nothing of it is believed."""
        with self.transaction():
            self.write("DELETE FROM layers WHERE key = ?", (key.hex,))
            self.write("DELETE FROM tombstones WHERE key = ?", (key.hex,))

    def _add(
        self, key: Key, about: tuple[str, str, str], made: LayerResult, listing: bytes, claims: str, *, built: int
    ) -> None:
        kind, name, recipe = about
        blobs = [[b.digest.hex, b.diff_id.hex, b.size, b.unpacked, b.compression.value] for b in made.blobs]
        now = time.time()
        with self.transaction():
            before = next((row for row in self._layers([key]) if row.times), None)
            times = built + (before.times if before else 0)
            seconds = before.seconds if before and not built else float(made.seconds)  # what it took here
            row = Layer(key.hex, kind, name, json.dumps(blobs), json.dumps(made.env), seconds, now, times, claims)
            self.put("layers", row, recipe=recipe, contents=listing, used=now)
            self.write("DELETE FROM tombstones WHERE key = ?", (key.hex,))

    def contents(self, key: Key) -> list[tuple[str, str]] | None:
        """Paths that a layer owns, with their content hashes; None where they are not known."""
        row = self.one("SELECT contents FROM layers WHERE key = ?", (key.hex,))
        if row is None or not row[0]:
            return None
        with self.decoding():
            return [(path, sha256) for path, sha256 in json.loads(zlib.decompress(row[0]))]

    def add_contents(self, key: Key, contents: Sequence[tuple[str, str]]) -> None:
        """Record the paths of a layer that another machine made."""
        listing = zlib.compress(canonical_json(contents).encode(), 1)
        self.write("UPDATE layers SET contents = ? WHERE key = ?", (listing, key.hex))

    def claims(self, keys: Iterable[Key]) -> dict[Key, tuple[str, ...]]:
        """The claims of layers."""
        rows = self.whole("layers", "WHERE key IN", tuple(key.hex for key in keys), also="contents")
        with self.decoding():
            return {Key(row[0]): _claims(row[-2], row[-1]) for row in rows}

    def describe(self, keys: Iterable[Key]) -> dict[Key, tuple[str, str]]:
        """Kind and name under which keys are known."""
        return {Key(row.key): (row.kind, row.name) for row in self._layers(keys)}

    def add_remote(self, repository: str, digests: Iterable[Digest]) -> None:
        """Record that a repository has blobs."""
        now = time.time()
        with self.transaction():
            for digest in digests:
                self.put("remote", (repository, digest.hex, now))

    def remote(self, repository: str) -> frozenset[Digest]:
        """Blobs that a repository was seen to have."""
        return frozenset(Digest(row[1]) for row in self.whole("remote", "WHERE repository = ?", (repository,)))

    def touch(self, keys: Sequence[Key]) -> None:
        """Note that layers were used, at most once an hour."""
        self._touch("layers", "key", [k.hex for k in keys])

    def tombstones(self, keys: Iterable[Key]) -> dict[Key, Tombstone]:
        """What is said of layers that were taken away."""
        rows = self.whole("tombstones", "WHERE key IN", tuple(key.hex for key in keys))
        return {Key(key): Tombstone(why, at) for key, _name, why, at in rows}

    def find_wheel(self, key: Key) -> tuple[str, FileHash] | None:
        """File name and hash of a compiled wheel."""
        rows = self.whole("wheels", "WHERE key = ?", (key.hex,))
        return (rows[0][1], FileHash(rows[0][2])) if rows else None

    def add_wheel(self, key: Key, recipe: str, file: str, sha256: FileHash, seconds: float) -> None:
        """Record a compiled wheel."""
        now = time.time()
        self.put("wheels", (key.hex, file, sha256.hex, float(seconds), now), recipe=recipe, used=now)

    def touch_wheels(self, keys: Sequence[Key]) -> None:
        """Note that compiled wheels were used, at most once an hour."""
        self._touch("wheels", "key", [k.hex for k in keys])

    def add_download(self, sha256: FileHash, name: str, size: int, seconds: float) -> None:
        """Record a file that was fetched, in ``seconds``."""
        now = time.time()
        self.put("downloads", (sha256.hex, name, size, float(seconds), now), used=now)

    def touch_downloads(self, hashes: Sequence[FileHash]) -> None:
        """Note that downloads were used, at most once an hour."""
        self._touch("downloads", "sha256", [h.hex for h in hashes])

    def find_file(self, stat: StatKey) -> tuple[FileHash, int] | None:
        """Hash of a file that looks unchanged, and when (ns) its hashing began."""
        place = (_signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns)
        row = self.one(
            "SELECT sum, sha256, hashed_ns FROM files "
            "WHERE device=? AND inode=? AND size=? AND mtime_ns=? AND ctime_ns=?",
            place,
        )
        return (FileHash(row[1]), row[2]) if row and row[0] == sum_of(*place, *row[1:]) else None

    def add_file(self, stat: StatKey, sha256: FileHash, hashed_ns: int) -> None:
        """Record a file's hash."""
        place = (_signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns)
        self.put("files", (*place, sha256.hex, hashed_ns))

    def is_checked(self, key: Key) -> bool:
        """Whether this set of layers was found free of collisions."""
        return self.one("SELECT 1 FROM checked WHERE key = ?", (key.hex,)) is not None

    def add_checked(self, key: Key) -> None:
        """Record that a set of layers is free of collisions."""
        self.write("INSERT OR IGNORE INTO checked VALUES (?)", (key.hex,))

    def add_build(self, report: dict[str, Any], started: float) -> None:
        """Record a finished build by its report."""
        named = (report["stage"], report["image"], report["digest"])
        with self.transaction():
            self.put("builds", (*named, float(started), float(report["seconds"]), canonical_json(report)))
            (build,) = self.one("SELECT last_insert_rowid()")
            for name, spent in report["timings"].items():
                row = (build, name, spent["seconds"], spent["cpu"], spent["read"], spent["written"])
                self.write("INSERT INTO phases VALUES (?,?,?,?,?,?)", row)

    def builds(self, stage: str, image: str, count: int) -> list[tuple[float, dict[str, Any]]]:
        """Start (seconds since the epoch) and report of a stage's last builds, the latest first."""
        last = "WHERE stage = ? AND image = ? ORDER BY id DESC LIMIT ?"
        rows = self.whole("builds", last, (stage, image, count))
        if len(rows) < count:  # few, or some of them damaged
            rows = self.whole("builds", last, (stage, image, -1))[:count]
        with self.decoding():
            return [(row[3], json.loads(row[5])) for row in rows]

    def phases(self, builds: int) -> list[tuple[str, str, float, float, float, int, int]]:
        """Stage, phase, start of the build, seconds, CPU seconds, bytes read and written, of the last builds."""
        rows = self.select(
            "SELECT stage, name, started, phases.seconds, cpu, read, written FROM phases JOIN builds ON id = build "
            "WHERE id > (SELECT MAX(id) FROM builds) - ? ORDER BY id, phases.seconds DESC",
            (builds,),
        )
        with self.decoding():
            return [(str(a), str(b), float(c), float(d), float(e), int(f), int(g)) for a, b, c, d, e, f, g in rows]

    def last_recipes(self, stage: str, image: str) -> dict[str, str]:
        """Layer name to recipe of the last build of a stage's image (of this project); empty before the first."""
        builds = self.builds(stage, image, 1)
        if not builds:
            return {}
        with self.decoding():
            keys = {layer["key"].removeprefix("sha256:"): layer["name"] for layer in builds[0][1]["layers"]}
        rows = self.select_in("SELECT key, recipe FROM layers WHERE key IN", list(keys))
        return {keys[key]: recipe for key, recipe in rows if is_recipe_of(key, recipe)}

    def times_to_build(self) -> list[tuple[str, int, float]]:
        """Kind, unpacked bytes and seconds of layers that were built of late.

        Another machine's seconds are those of a kind that was never built here.
        """
        rows = self.whole(
            "layers",
            "WHERE seconds > 0 AND (times > 0 OR kind NOT IN (SELECT kind FROM layers WHERE times > 0 AND seconds > 0))"
            " ORDER BY built DESC LIMIT ?",
            (_RECENT,),
        )
        with self.decoding():
            layers = (Layer(*row) for row in rows)
            return [(one.kind, sum(blob.unpacked for blob in read_blobs(one.blobs)), one.seconds) for one in layers]

    def times_to_fetch(self) -> list[tuple[int, float]]:
        """Bytes and seconds of downloads."""
        rows = self.whole("downloads", "ORDER BY fetched DESC LIMIT ?", (_RECENT,))
        return [(size, seconds) for _sha256, _name, size, seconds, _fetched in rows]

    def times_to_import(self) -> list[tuple[int, float]]:
        """Bytes and seconds of imports into local storage."""
        rows = self.select(
            "SELECT CASE WHEN json_valid(report) THEN json_extract(report, '$.bytes.imported') END AS size, "
            "CASE WHEN json_valid(report) THEN json_extract(report, '$.phases.import') END "
            "FROM builds WHERE size > 0 ORDER BY id DESC LIMIT ?",
            (_RECENT,),
        )
        with self.decoding():
            return [(int(size), float(seconds)) for size, seconds in rows if seconds]

    def _touch(self, table: str, column: str, values: Sequence[str]) -> None:
        now = time.time()
        # also what was used in the future: a clock that was set back must not keep it from being touched for a year
        query = f"SELECT {column} FROM {table} WHERE (used < {now - _TOUCH_SECONDS} OR used > {now}) AND {column} IN"  # noqa: S608
        for (value,) in self.select_in(query, values):
            self.write(f"UPDATE {table} SET used = ? WHERE {column} = ?", (now, value))  # noqa: S608


def is_recipe_of(key: str, recipe: object) -> bool:
    """Whether a recipe is the one that a key was made of; one that was damaged is not."""
    return isinstance(recipe, str) and Key.of(recipe.encode()).hex == key


def read_blobs(text: str) -> tuple[Blob, ...]:
    """The ``blobs`` column of a layer: ``[digest, diff_id, size, unpacked, compression]`` of each, lowest first."""
    return tuple(
        Blob(digest=Digest(d), diff_id=DiffId(i), size=size, unpacked=unpacked, compression=Compression(how))
        for d, i, size, unpacked, how in json.loads(text)
    )


def _claims(text: str, listing: bytes) -> tuple[str, ...]:
    if text:
        return _texts(text)
    return claims_of(path for path, _ in json.loads(zlib.decompress(listing)))  # a row of schema 1


def _texts(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _signed(number: int) -> int:
    """SQLite's integers have a sign; inode numbers of some file systems use all 64 bits."""
    return number - (1 << 64) if number >= 1 << 63 else number
