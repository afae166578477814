"""A cache with made-up layers and downloads, and a project that needs some of them. No program, no network."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from buildkit.declare.project import Project, load_project
from buildkit.digest import DiffId, Digest, FileHash, Key
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.spec import Kind, make_recipe
from buildkit.store.blobs import Blobs
from buildkit.store.ledger import Ledger
from tests.ledgers import LayerId

DAY = 86400.0


class Stocked:
    """The project, and its cache at ``cache``."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.cache = folder / "cache"
        self.project.mkdir()
        (self.project / "pyproject.toml").write_text('[tool.buildkit]\nname = "made-up"\nbytecode = false\n')
        self.blobs = Blobs(self.cache)
        self.stage("base")

    def stage(self, name: str) -> str:
        """A stage whose root is an image of a registry; returns what that is called."""
        image = f"registry.example/{name}@sha256:{Digest.of(name.encode()).hex}"
        path = self.project / f"stages/{name}/stage.toml"
        path.parent.mkdir(parents=True)
        path.write_text(f'summary = "{name}"\n[root]\nimage = "{image}"\n')
        return image

    def settings(self) -> Project:
        return load_project(self.project)

    def root(self, name: str, *data: bytes, days: float = 0, seconds: float = 1.0) -> Key:
        """The root of a stage, which is needed while there is such a stage."""
        image = f"registry.example/{name}@sha256:{Digest.of(name.encode()).hex}"
        recipe, key = make_recipe(Kind.IMAGE, image=image, arch=self.settings().target.deb_arch)
        return self._add(key, "image", f"{name}/image", recipe, data, days, seconds)

    def layer(self, name: str, *data: bytes, days: float = 100, seconds: float = 1.0) -> Key:
        """A layer that no stage needs."""
        recipe, key = make_recipe(Kind.FILES, target="/x", files=[[name, "file", FileHash.of(b"".join(data)).hex]])
        return self._add(key, "files", name, recipe, data, days, seconds)

    def unmade(self, name: str, tar: bytes, days: float = 100) -> Key:
        """A layer that no stage needs and whose bytes are a tree only: its blob is made when it is pushed."""
        return self._of_tree(name, tar, tar, days)

    def pushed(self, name: str, tar: bytes, blob: bytes, days: float = 100) -> Key:
        """A layer that no stage needs and whose bytes are a tree, which the caller makes, and a blob."""
        key = self._of_tree(name, tar, blob, days)
        self.blob(blob).write_bytes(blob)
        return key

    def _of_tree(self, name: str, tar: bytes, blob: bytes, days: float) -> Key:
        key = self.layer(name, tar, days=days)
        self.blob(tar).unlink()
        own = Blob(
            digest=Digest.of(blob),
            diff_id=DiffId.of(tar),
            size=len(blob),
            unpacked=len(tar),
            compression=Compression.ZSTD,
        )
        recipe = make_recipe(Kind.FILES, target="/x", files=[[name, "file", FileHash.of(tar).hex]])[0]
        with closing(self.ledger()) as ledger:
            ledger.add_layer(LayerId(key, "files", name, recipe), LayerResult(blobs=(own,), seconds=1.0), [])
        self._date("layers", "key", key.hex, days)
        return key

    def wheel(self, name: str, data: bytes, days: float = 100, seconds: float = 1.0) -> Key:
        """A compiled wheel that no stage needs."""
        recipe, key = make_recipe("compile", name=name, sdist=FileHash.of(data).hex, builder=[], env={})
        file, sha256 = f"{name}-1.0-py3-none-any.whl", FileHash.of(data)
        self.blobs.file_path(sha256, file).write_bytes(data)
        with closing(self.ledger()) as ledger:
            ledger.wheels.add(key, recipe, file, sha256, seconds)
        self._date("wheels", "key", key.hex, days)
        return key

    def download(self, name: str, data: bytes, days: float = 100, seconds: float | None = 1.0) -> Path:
        """A file that no stage needs; without ``seconds`` the ledger does not know of it."""
        path = self.blobs.file_path(FileHash.of(data), name)
        path.write_bytes(data)
        at = time.time() - days * DAY
        os.utime(path, (at, at))
        if seconds is not None:
            with closing(self.ledger()) as ledger:
                ledger.downloads.add(FileHash.of(data), name, len(data), seconds)
            self._date("downloads", "sha256", FileHash.of(data).hex, days)
        return path

    def linked(self, name: str, data: bytes, days: float = 100) -> tuple[Path, Path]:
        """A wheel that no stage needs, and that is used where it is; returns the user's file, and the link."""
        path, own = self.download(name, data, days), self.project.with_name("wheels") / name
        own.parent.mkdir(exist_ok=True)
        path.rename(own)
        path.symlink_to(own)
        return own, path

    def orphan(self, data: bytes) -> Path:
        """A blob that no row speaks of."""
        path = self.blobs.path(Digest.of(data))
        path.write_bytes(data)
        return path

    def blob(self, data: bytes) -> Path:
        """Where the blob of a layer's data is."""
        return self.blobs.path(Digest.of(data))

    def ledger(self) -> Ledger:
        return Ledger(self.cache / "ledger.sqlite")

    def sql(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.cache / "ledger.sqlite")) as db, db:
            return db.execute(query, values).fetchall()

    def tombstones(self) -> Mapping[str, str]:
        """Names of what was taken away, and why."""
        return {str(name): str(why) for name, why in self.sql("SELECT name, why FROM tombstones")}

    def snapshot(self) -> dict[str, bytes]:
        """Every file of the cache, and what is in it."""
        return {
            path.relative_to(self.cache).as_posix(): path.read_bytes()
            for path in sorted(self.cache.rglob("*"))
            if path.is_file() and not path.name.endswith(("-wal", "-shm"))
        }

    def _add(
        self, key: Key, kind: str, name: str, recipe: str, data: tuple[bytes, ...], days: float, seconds: float
    ) -> Key:
        for one in data:
            self.blob(one).write_bytes(one)
        made = LayerResult(blobs=tuple(map(_blob, data)), seconds=seconds)
        with closing(self.ledger()) as ledger:
            ledger.add_layer(LayerId(key, kind, name, recipe), made, [])
        self._date("layers", "key", key.hex, days)
        return key

    def _date(self, table: str, column: str, value: str, days: float) -> None:
        self.sql(f"UPDATE {table} SET used = ? WHERE {column} = ?", time.time() - days * DAY, value)


def _blob(data: bytes) -> Blob:
    return Blob(
        digest=Digest.of(data),
        diff_id=DiffId.of(b"unpacked " + data),
        size=len(data),
        unpacked=10 * len(data),
        compression=Compression.ZSTD,
    )
