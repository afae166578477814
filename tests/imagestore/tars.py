"""Tars of any kind, layers in an image store, and images of them."""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from buildkit.declare.stage import Config
from buildkit.digest import DiffId, Digest
from buildkit.imagestore.image_store import ImageStore
from buildkit.layers.tar.blob_stream import TarPiece
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image, Layer

Entry = tuple[str, bytes, dict[str, Any]]


def entry(name: str, content: bytes = b"", **fields: Any) -> Entry:
    """A member; ``fields`` are those of ``tarfile.TarInfo``."""
    return name, content, fields


def folder(name: str, **fields: Any) -> Entry:
    return entry(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def make_tar(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as tar:
        for name, content, fields in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def make_sparse_tar(form: str, pieces: int = 40) -> bytes:
    """A tar of a file ``source`` with holes, by GNU tar: its old format (``gnu``), or pax 0.0, 0.1 or 1.0."""
    with tempfile.TemporaryDirectory() as name:
        with Path(name, "source").open("wb") as file:
            for at in range(pieces):  # more pieces than the header of the old format holds
                file.seek(at * 131072)
                file.write((b"%04d" % at) * 1024)
            file.truncate(10_000_000)
        options = ["--format=gnu"] if form == "gnu" else ["--format=posix", f"--sparse-version={form}"]
        argv = ["tar", "--sparse", "--owner=0", "--group=0", *options, "-cf", "-", "-C", name, "source"]
        return subprocess.run(argv, check=True, capture_output=True).stdout


def diff_id_of(tar: bytes) -> DiffId:
    return DiffId(hashlib.sha256(tar).hexdigest())


def add_layer(store: ImageStore, tar: bytes, *, foreign_owners: bool = False, seed: int | None = None) -> DiffId:
    """Write a layer in blocks, of random sizes with a ``seed``, and keep it."""
    with store.writing_tree(foreign_owners=foreign_owners) as sink:
        for block in cut(tar, seed):
            sink.take([TarPiece(block)])
        sink.keep(diff_id_of(tar), len(tar))
    return diff_id_of(tar)


def cut(data: bytes, seed: int | None) -> Iterable[bytes]:
    chance, at = random.Random(seed), 0
    while at < len(data):
        size = (1 << 20) if seed is None else chance.choice((1, 7, 511, 512, 513, 4096))
        yield data[at : at + size]
        at += size


def image_of(*tars: bytes, config: Config | None = None) -> Image:
    return Image(layers=tuple(map(_layer, tars)), config=config or Config(), arch="amd64")


def _layer(tar: bytes) -> Layer:
    diff_id = diff_id_of(tar)
    blob = Blob(
        digest=Digest(diff_id.hex), diff_id=diff_id, size=len(tar), unpacked=len(tar), compression=Compression.NONE
    )
    return Layer(blob=blob, history="a test")


def read(store: ImageStore, diff_id: DiffId) -> bytes:
    return b"".join(store.open_tar(diff_id))


def files_of(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}
