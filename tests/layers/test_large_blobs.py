"""Few large layers are compressed at once: a compressor keeps up to fifty megabytes."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from buildkit.layers.tar import blob_stream
from buildkit.layers.tar.blob_stream import BLOCK, BlobStream
from buildkit.layers.tar.member import Compression, PackedLayer

SMALL, LARGE = 4, 12  # blocks


class Watch:
    """Counts the compressors that have got a large layer and have not ended."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.lock = threading.Lock()

    def compressor(self, _threads: int) -> Watched:
        return Watched(self)


class Watched:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._taken = 0

    def compress(self, data: bytes) -> bytes:
        self._taken += len(data)
        if self._taken == (SMALL + 1) * BLOCK:
            self._count(1)
        return data

    def flush(self) -> bytes:
        if self._taken > SMALL * BLOCK:
            self._count(-1)
        return b""

    def _count(self, change: int) -> None:
        with self._watch.lock:
            self._watch.now += change
            self._watch.most = max(self._watch.most, self._watch.now)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    found = Watch()
    monkeypatch.setattr(blob_stream, "LARGE", SMALL * BLOCK)
    monkeypatch.setattr(blob_stream, "_PATIENCE", 0.01)
    monkeypatch.setattr(blob_stream, "_large", threading.BoundedSemaphore(1))
    monkeypatch.setitem(blob_stream._MAKERS, Compression.ZSTD, found.compressor)
    yield found
    assert blob_stream._large.acquire(blocking=False)  # every layer gave its turn back


def pack(blocks: int) -> PackedLayer:
    with BlobStream(io.BytesIO(), Compression.ZSTD) as stream:
        for number in range(blocks):
            stream.write(bytes([number]) * BLOCK)
        return stream.finish()


def test_large_layers_are_compressed_one_after_another_and_keep_their_bytes(watch: Watch) -> None:
    with ThreadPoolExecutor(4) as pool:
        packed = list(pool.map(pack, [LARGE, SMALL, LARGE, LARGE]))
    assert watch.most == 1
    assert packed[0].digest == packed[2].digest
    assert [layer.unpacked for layer in packed] == [n * BLOCK for n in (LARGE, SMALL, LARGE, LARGE)]


def test_small_layer_does_not_wait(watch: Watch) -> None:
    assert watch.most == 0
    with blob_stream._large:
        assert pack(SMALL).unpacked == SMALL * BLOCK


def fail() -> None:
    with BlobStream(io.BytesIO(), Compression.ZSTD) as stream:
        for _ in range(SMALL + 1):
            stream.write(bytes(BLOCK))
        raise ZeroDivisionError


def test_layer_that_fails_while_it_waits_ends(watch: Watch) -> None:
    assert watch.most == 0
    with blob_stream._large, pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.parametrize("size", [0, 1 << 20, 40 << 20])
def test_blob_is_the_same_however_many_threads_compress_it(size: int) -> None:
    data = b"".join(b"%d words, and %d more" % (n, n * n) for n in range(size // 16))[:size]
    packed = set()
    for threads in (1, 2, 4):
        with BlobStream(io.BytesIO(), Compression.ZSTD, threads=threads) as stream:
            for at in range(0, size, BLOCK):
                stream.write(data[at : at + BLOCK])
            packed.add(stream.finish().digest)
    assert len(packed) == 1
