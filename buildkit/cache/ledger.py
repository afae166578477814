"""The ledger: what was made from which recipe.

Tables (schema version 4):

    layers      key, kind, name, recipe (JSON), blobs (JSON), env (JSON), contents (zlib JSON), seconds, built, used,
                times          how often it was built; a row outlives its blobs, so that what was evicted is known
                claims (JSON)          the paths in short (oci/claims.py); contents are empty where only those are known
                sum          of key, blobs and env: a row that was damaged is as if there were none
    wheels      key, recipe, file, sha256, seconds, built, used          compiled from sdists and trees
    downloads   sha256, name, size, seconds, fetched, used
    files       device, inode, size, mtime_ns, ctime_ns, sha256, hashed_ns          the stat index
    builds      id, stage, image, digest, started, seconds, report (JSON of the report)
    phases      build, name, seconds, cpu (seconds), read, written (bytes)
    tombstones  key, name, why, at          layers whose blobs were taken away on purpose, until they are built again
    checked     key          sets of layers that were found free of collisions
    remote      repository, digest, seen          blobs that a registry has
    verdicts    sha256, rules, scan (JSON), seconds, scanned, used          of model files (cache/verdicts.py)
    checksums   sha256, sha512, used          of files that were scanned
    natives     digest, facts (zlib JSON), at          native files of blobs (cache/natives.py)
    starts      key, said (JSON), at          what was said of sets of layers that may not start

Times are seconds since the epoch. A row is written after the blobs it names are on the disk.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit.cache.database import Database
from buildkit.digest import DiffId, Digest, FileHash, Key, canonical_json
from buildkit.layers.member import Compression
from buildkit.oci.blob import Blob, Made
from buildkit.oci.claims import claims_of

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


class Ledger(Database):
    """What builds write down and look up."""

    def find(self, keys: Iterable[Key]) -> dict[Key, Made]:
        """What is known of these keys."""
        rows = self.select_in("SELECT key, blobs, env, seconds, sum FROM layers WHERE key IN", [k.hex for k in keys])
        return {
            Key(key): Made(blobs=read_blobs(blobs), seconds=seconds, env=_env(env))
            for key, blobs, env, seconds, found in rows
            if found in ("", _sum(key, blobs, env))  # a row of schema 1 has none
        }

    def add(self, key: Key, kind: str, name: str, recipe: str, made: Made, contents: Sequence[tuple[str, str]]) -> None:
        """Record what a recipe came to; its blobs are on the disk already. ``contents`` lists owned paths."""
        listing = zlib.compress(canonical_json(contents).encode(), 1)
        claims = json.dumps(claims_of(path for path, _ in contents))
        self._add(key, (kind, name, recipe), made, listing, claims, built=1)

    def add_shared(
        self, key: Key, kind: str, name: str, recipe: str, made: Made, claims: Sequence[str], *, only_at: str = ""
    ) -> None:
        """Record what another machine made of a recipe; its paths are known by their claims alone.

        ``only_at`` names the registry's repository while the blobs are not here.
        """
        self._add(key, (kind, name, recipe), made, b"", json.dumps(claims), built=0)
        if only_at:
            stone = (key.hex, name, f"shared, {only_at}", time.time())
            self.write("INSERT OR REPLACE INTO tombstones VALUES (?,?,?,?)", stone)

    def forget_shared(self, key: Key) -> None:
        """What another machine was said to have made of a recipe is not to be had: nothing of it is believed."""
        with self.transaction():
            self.write("DELETE FROM layers WHERE key = ?", (key.hex,))
            self.write("DELETE FROM tombstones WHERE key = ?", (key.hex,))

    def _add(
        self, key: Key, about: tuple[str, str, str], made: Made, listing: bytes, claims: str, *, built: int
    ) -> None:
        blobs = [[b.digest.hex, b.diff_id.hex, b.size, b.unpacked, b.compression.value] for b in made.blobs]
        now, told = time.time(), (json.dumps(blobs), json.dumps(made.env))
        row = (key.hex, *about, *told, listing, made.seconds, now, now)
        with self.transaction():
            self.write(
                "INSERT OR REPLACE INTO layers VALUES (?,?,?,?,?,?,?,?,?,?,"
                "? + COALESCE((SELECT times FROM layers WHERE key = ?), 0), ?, ?)",
                (*row, built, key.hex, claims, _sum(key.hex, *told)),
            )
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
        rows = self.select_in("SELECT key, claims, contents FROM layers WHERE key IN", [k.hex for k in keys])
        with self.decoding():
            return {Key(key): _claims(claims, listing) for key, claims, listing in rows}

    def describe(self, keys: Iterable[Key]) -> dict[Key, tuple[str, str]]:
        """Kind and name under which keys are known."""
        rows = self.select_in("SELECT key, kind, name FROM layers WHERE key IN", [k.hex for k in keys])
        return {Key(key): (kind, name) for key, kind, name in rows}

    def add_remote(self, repository: str, digests: Iterable[Digest]) -> None:
        """Record that a repository has blobs."""
        now = time.time()
        with self.transaction():
            for digest in digests:
                self.write("INSERT OR REPLACE INTO remote VALUES (?,?,?)", (repository, digest.hex, now))

    def remote(self, repository: str) -> frozenset[Digest]:
        """Blobs that a repository was seen to have."""
        rows = self.select("SELECT digest FROM remote WHERE repository = ?", (repository,))
        return frozenset(Digest(digest) for (digest,) in rows)

    def recipe(self, key: str) -> tuple[str, str] | None:
        """Name and recipe of a layer, or the recipe of a compiled wheel under no name; None for an unknown key."""
        query = "SELECT name, recipe FROM layers WHERE key = ? UNION ALL SELECT '', recipe FROM wheels WHERE key = ?"
        row = self.one(query, (key, key))
        return None if row is None else (row[0], row[1])

    def touch(self, keys: Sequence[Key]) -> None:
        """Note that layers were used, at most once an hour."""
        self._touch("layers", "key", [k.hex for k in keys])

    def tombstones(self, keys: Iterable[Key]) -> dict[Key, Tombstone]:
        """What is said of layers that were taken away."""
        rows = self.select_in("SELECT key, why, at FROM tombstones WHERE key IN", [k.hex for k in keys])
        return {Key(key): Tombstone(why, at) for key, why, at in rows}

    def find_wheel(self, key: Key) -> tuple[str, FileHash] | None:
        """File name and hash of a compiled wheel."""
        row = self.one("SELECT file, sha256 FROM wheels WHERE key = ?", (key.hex,))
        with self.decoding():
            return None if row is None else (row[0], FileHash(row[1]))

    def add_wheel(self, key: Key, recipe: str, file: str, sha256: FileHash, seconds: float) -> None:
        """Record a compiled wheel."""
        now = time.time()
        row = (key.hex, recipe, file, sha256.hex, seconds, now, now)
        self.write("INSERT OR REPLACE INTO wheels VALUES (?,?,?,?,?,?,?)", row)

    def touch_wheels(self, keys: Sequence[Key]) -> None:
        """Note that compiled wheels were used, at most once an hour."""
        self._touch("wheels", "key", [k.hex for k in keys])

    def add_download(self, sha256: FileHash, name: str, size: int, seconds: float) -> None:
        """Record a file that was fetched, in ``seconds``."""
        now = time.time()
        self.write("INSERT OR REPLACE INTO downloads VALUES (?,?,?,?,?,?)", (sha256.hex, name, size, seconds, now, now))

    def touch_downloads(self, hashes: Sequence[FileHash]) -> None:
        """Note that downloads were used, at most once an hour."""
        self._touch("downloads", "sha256", [h.hex for h in hashes])

    def find_file(self, stat: StatKey) -> tuple[FileHash, int] | None:
        """Hash of a file that looks unchanged, and when (ns) its hashing began."""
        row = self.one(
            "SELECT sha256, hashed_ns FROM files WHERE device=? AND inode=? AND size=? AND mtime_ns=? AND ctime_ns=?",
            (_signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns),
        )
        with self.decoding():
            return None if row is None else (FileHash(row[0]), row[1])

    def add_file(self, stat: StatKey, sha256: FileHash, hashed_ns: int) -> None:
        """Record a file's hash."""
        row = (_signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns)
        self.write("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?)", (*row, sha256.hex, hashed_ns))

    def is_checked(self, key: Key) -> bool:
        """Whether this set of layers was found free of collisions."""
        return self.one("SELECT 1 FROM checked WHERE key = ?", (key.hex,)) is not None

    def add_checked(self, key: Key) -> None:
        """Record that a set of layers is free of collisions."""
        self.write("INSERT OR IGNORE INTO checked VALUES (?)", (key.hex,))

    def add_build(self, report: dict[str, Any], started: float) -> None:
        """Record a finished build by its report."""
        row = (report["stage"], report["image"], report["digest"], started, report["seconds"], canonical_json(report))
        with self.transaction():
            self.write("INSERT INTO builds VALUES (NULL,?,?,?,?,?,?)", row)
            (build,) = self.one("SELECT last_insert_rowid()")
            for name, spent in report["timings"].items():
                row = (build, name, spent["seconds"], spent["cpu"], spent["read"], spent["written"])
                self.write("INSERT INTO phases VALUES (?,?,?,?,?,?)", row)

    def builds(self, stage: str, image: str, count: int) -> list[tuple[float, dict[str, Any]]]:
        """Start (seconds since the epoch) and report of a stage's last builds, the latest first."""
        query = "SELECT started, report FROM builds WHERE stage = ? AND image = ? ORDER BY id DESC LIMIT ?"
        rows = self.select(query, (stage, image, count))
        with self.decoding():
            return [(started, json.loads(report)) for started, report in rows]

    def phases(self, builds: int) -> list[tuple[str, str, float, float, float, int, int]]:
        """Stage, phase, start of the build, seconds, CPU seconds, bytes read and written, of the last builds."""
        return self.select(
            "SELECT stage, name, started, phases.seconds, cpu, read, written FROM phases JOIN builds ON id = build "
            "WHERE id > (SELECT MAX(id) FROM builds) - ? ORDER BY id, phases.seconds DESC",
            (builds,),
        )

    def last_recipes(self, stage: str, image: str) -> dict[str, str]:
        """Layer name to recipe of the last build of a stage's image (of this project); empty before the first."""
        builds = self.builds(stage, image, 1)
        if not builds:
            return {}
        with self.decoding():
            keys = {layer["key"].removeprefix("sha256:"): layer["name"] for layer in builds[0][1]["layers"]}
        rows = self.select_in("SELECT key, recipe FROM layers WHERE key IN", list(keys))
        return {keys[key]: recipe for key, recipe in rows if Key.of(recipe.encode()).hex == key}

    def times_to_build(self) -> list[tuple[str, int, float]]:
        """Kind, unpacked bytes and seconds of layers that were built of late."""
        query = "SELECT kind, blobs, seconds FROM layers WHERE seconds > 0 ORDER BY built DESC LIMIT ?"
        rows = self.select(query, (_RECENT,))
        with self.decoding():
            return [(kind, sum(x.unpacked for x in read_blobs(blobs)), float(seconds)) for kind, blobs, seconds in rows]

    def times_to_fetch(self) -> list[tuple[int, float]]:
        """Bytes and seconds of downloads."""
        return self.select("SELECT size, seconds FROM downloads ORDER BY fetched DESC LIMIT ?", (_RECENT,))

    def times_to_import(self) -> list[tuple[int, float]]:
        """Bytes and seconds of imports into local storage."""
        rows = self.select(
            "SELECT json_extract(report, '$.bytes.imported'), json_extract(report, '$.phases.import') "
            "FROM builds WHERE json_extract(report, '$.bytes.imported') > 0 ORDER BY id DESC LIMIT ?",
            (_RECENT,),
        )
        return [(size, seconds) for size, seconds in rows if seconds]

    def _touch(self, table: str, column: str, values: Sequence[str]) -> None:
        now = time.time()
        # also what was used in the future: a clock that was set back must not keep it from being touched for a year
        query = f"SELECT {column} FROM {table} WHERE (used < {now - _TOUCH_SECONDS} OR used > {now}) AND {column} IN"  # noqa: S608
        for (value,) in self.select_in(query, values):
            self.write(f"UPDATE {table} SET used = ? WHERE {column} = ?", (now, value))  # noqa: S608


def _sum(key: str, blobs: str, env: str) -> str:
    return FileHash.of(f"{key}\0{blobs}\0{env}".encode()).hex[:16]


def read_blobs(text: str) -> tuple[Blob, ...]:
    """The ``blobs`` column of a layer: ``[digest, diff_id, size, unpacked, compression]`` of each, lowest first."""
    return tuple(
        Blob(digest=Digest(d), diff_id=DiffId(i), size=size, unpacked=unpacked, compression=Compression(how))
        for d, i, size, unpacked, how in json.loads(text)
    )


def _claims(text: str, listing: bytes) -> tuple[str, ...]:
    if text:
        return tuple(json.loads(text))
    return claims_of(path for path, _ in json.loads(zlib.decompress(listing)))  # a row of schema 1


def _env(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _signed(number: int) -> int:
    """SQLite's integers have a sign; inode numbers of some file systems use all 64 bits."""
    return number - (1 << 64) if number >= 1 << 63 else number
