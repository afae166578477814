"""Layers as blobs of the cache and as trees of an image store; the trees are tars in memory here.

`tests/imagestore` and `tests/e2e` have them in a real image store.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.digest import DiffId, Digest
from buildkit.errors import MismatchError
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import Compression, Member
from buildkit.layers.tar.writer import write_layer
from buildkit.oci.blob import Blob
from buildkit.store.blobs import Blobs
from buildkit.store.layer_bytes import LayerBytes


class MemoryTrees:
    """Tars by diff_id."""

    def __init__(self, *tars: bytes) -> None:
        self.tars = {DiffId(Digest.of(tar).hex): tar for tar in tars}

    def has_tree(self, diff_id: DiffId) -> bool:
        return diff_id in self.tars

    def open_tar(self, diff_id: DiffId) -> Iterator[bytes]:
        tar = self.tars[diff_id]
        return iter((tar[:100], tar[100:]))


def pack(compression: Compression) -> tuple[Blob, bytes]:
    out = io.BytesIO()
    data = b"words " * 9999
    member = Member(path="etc/words", size=len(data), content=lambda: iter((data,)))
    return Blob.of(write_layer([member], out, compression)), out.getvalue()


def unmade(blob: Blob, wanted: Compression) -> Blob:
    return replace(blob, compression=wanted)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def test_layer_is_here_as_a_blob_or_as_a_tree(blobs: Blobs) -> None:
    packed, data = pack(Compression.ZSTD)
    plain, tar = pack(Compression.NONE)
    assert not LayerBytes(blobs).has(packed)
    assert LayerBytes(blobs, MemoryTrees(tar)).has(packed)
    assert not LayerBytes(blobs, MemoryTrees(tar)).has_blob(packed)
    blobs.path(packed.digest).write_bytes(data)
    assert LayerBytes(blobs).has(packed)
    assert b"".join(LayerBytes(blobs).open_tar(packed)) == tar
    assert b"".join(LayerBytes(blobs, MemoryTrees(tar)).open_tar(plain)) == tar


@pytest.mark.parametrize("wanted", [Compression.ZSTD, Compression.GZIP])
def test_unmade_blob_becomes_the_one_that_packing_makes(blobs: Blobs, wanted: Compression) -> None:
    plain, tar = pack(Compression.NONE)
    waiting, (packed, _) = unmade(plain, wanted), pack(wanted)
    layers = LayerBytes(blobs, MemoryTrees(tar))
    assert not waiting.is_made
    assert not layers.has_blob(waiting)
    made, seconds = layers.make_blob(waiting, lambda _done: None)
    assert made == packed
    assert made.is_made
    assert seconds > 0
    assert b"".join(inflate(blobs.path(made.digest), wanted)) == tar


def test_tree_of_other_bytes_makes_no_blob(blobs: Blobs) -> None:
    plain, tar = pack(Compression.NONE)
    trees = MemoryTrees(tar)
    trees.tars[plain.diff_id] = tar.replace(b"words", b"sword", 1)
    with pytest.raises(MismatchError, match="the image store gave a layer of"):
        LayerBytes(blobs, trees).make_blob(unmade(plain, Compression.ZSTD), lambda _done: None)
    assert list((blobs.folder / "sha256").iterdir()) == []


def test_uncompressed_blob_is_made() -> None:
    assert pack(Compression.NONE)[0].is_made
