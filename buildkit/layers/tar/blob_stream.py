"""Turn the bytes of a tar into a stored blob, a tree of files, or both: hash, compress, hash again and write.

All of that happens in a separate thread. Whoever writes the tar of its own members says with each header what it
means, so a tree is made without reading headers again.

The thread that reads and inflates wheels hands over blocks of about a mebibyte. The queue between the two is short, so
memory stays small for layers of any size. hashlib, zstandard and isal release the interpreter lock, so both threads run
at the same time.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from buildkit.digest import DiffId, Digest
from buildkit.layers.tar.chunked import ChunkedCompressor
from buildkit.layers.tar.member import Compression, PackedLayer
from buildkit.layers.tar.parser import LayerMember
from buildkit.layers.tar.toc import Toc

BLOCK = 1 << 20
ZSTD_LEVEL = 3
GZIP_LEVEL = 1
_QUEUED = 2  # blocks
_SMALL = 1 << 16  # bytes; smaller pieces are joined, because each hashing takes and leaves the interpreter lock
LARGE = 8 << 20
"""Bytes of a tar from which few are compressed by zstd at once: a compressor's memory grows with its input to 50 MB."""
LARGE_AT_ONCE = max(1, min(3, len(os.sched_getaffinity(0)) // 2))
"""How many such tars are compressed at once; each has two threads."""
_PATIENCE = 0.2  # seconds

_large = threading.BoundedSemaphore(LARGE_AT_ONCE)


class TarPiece(NamedTuple):
    """The next bytes of a tar; if they are the header of a member, what it says.

    ``clone`` is a file with the member's content, which a tree may take instead of writing it.
    """

    data: bytes
    member: LayerMember | None = None
    clone: Path | None = None


Take = Callable[[Sequence[TarPiece]], object]
"""Takes pieces of a tar, in order."""


class BlobOutput(Protocol):
    """The file of a blob."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes, all of them."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _make_zstd(threads: int) -> _Compressor:
    import zstandard  # slow to load: only builds that pack a layer need it

    # workers compress while this thread hashes; the bytes are the same for any number of them
    # except none, so they do not depend on the host's cores
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=threads).compressobj()


def _make_gzip(_threads: int) -> _Compressor:
    from isal import isal_zlib

    # window bits above 15 ask for a gzip wrapper; its header has time 0 and no name (RFC 1952)
    return isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 31)


def _make_chunked(_threads: int) -> _Compressor:
    return ChunkedCompressor(ZSTD_LEVEL)


_MAKERS: dict[Compression, Callable[[int], _Compressor]] = {
    Compression.NONE: lambda _threads: _Plain(),
    Compression.GZIP: _make_gzip,
    Compression.ZSTD: _make_zstd,
    Compression.CHUNKED: _make_chunked,
}


@contextmanager
def turn_of_large(go_on: Callable[[], object]) -> Iterator[None]:
    """Wait until few other large layers are compressed, as every `BlobStream` of this process does, and hold the turn.

    For a layer that another process compresses. ``go_on`` is called now and then, and raises an error to give up.
    """
    while not _large.acquire(timeout=_PATIENCE):
        go_on()
    try:
        yield
    finally:
        _large.release()


class BlobStream:
    """Takes a tar in pieces and stores it in ``out``; a context manager. `finish` returns what was stored.

    ``progress`` is called with the bytes of tar so far; ``tee`` gets the tar, too. Without ``out`` nothing else does,
    and it counts as stored without compression. ``threads`` compress by zstd, each in memory of its own. An error of
    the thread (a full disk) is raised by the next `write` or by `finish`.
    """

    def __init__(
        self,
        out: BlobOutput | None,
        compression: Compression,
        progress: Callable[[int], None] = lambda _done: None,
        tee: Take | None = None,
        threads: int = 1,
    ) -> None:
        if out is None and compression is not Compression.NONE:
            raise ValueError("compressed bytes need a file")
        self._out = out
        self._tee = tee
        self._progress = progress
        self._compression = compression
        self._compressor = _MAKERS[compression](threads)
        self._tar = hashlib.sha256()
        self._blob = self._tar if compression is Compression.NONE else hashlib.sha256()
        self._stored = 0
        self._failure: BaseException | None = None
        self._blocks: Queue[list[TarPiece] | None] = Queue(_QUEUED)
        self._thread = threading.Thread(target=self._work, name="blob", daemon=True)
        self._pieces: list[TarPiece] = []
        self._waiting = 0
        self.unpacked = 0
        self._busy = 0.0  # seconds that the thread compressed, hashed and wrote
        self._toc: Toc | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._failure = self._failure or error  # the thread then drops the queued blocks
            self._blocks.put(None)
            self._thread.join()

    def write(self, data: bytes, member: LayerMember | None = None, clone: Path | None = None) -> None:
        """Add ``data`` to the tar: the header of ``member``, or other bytes; ``clone`` is that of `TarPiece`."""
        self._pieces.append(TarPiece(data, member, clone))
        self._waiting += len(data)
        if self._waiting >= BLOCK:
            self._hand_over()

    def finish(self, contents: tuple[tuple[str, str], ...] = ()) -> PackedLayer:
        """End the blob and return what was stored; ``contents`` are the paths that the layer owns."""
        self._hand_over()
        self._blocks.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        is_plain_zstd = self._compression is Compression.CHUNKED and self._toc is None
        return PackedLayer(
            digest=Digest(self._blob.hexdigest()),
            diff_id=DiffId(self._tar.hexdigest()),
            size=self._stored,
            unpacked=self.unpacked,
            compression=Compression.ZSTD if is_plain_zstd else self._compression,
            contents=contents,
            toc=self._toc,
            busy=self._busy,
        )

    def _hand_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._waiting:
            self._blocks.put(self._pieces)
        self.unpacked += self._waiting
        self._pieces, self._waiting = [], 0
        self._progress(self.unpacked)

    def _work(self) -> None:
        with ExitStack() as turn:
            packed, waits = 0, self._compression is Compression.ZSTD
            while (pieces := self._blocks.get()) is not None:
                packed += sum(len(piece.data) for piece in pieces) if waits else 0
                if waits and packed > LARGE:
                    waits = not self._take_turn(turn)
                if self._failure is None:
                    self._attempt(pieces)
            if self._failure is None:
                self._attempt(None)
            self._compressor = _Plain()  # frees the memory before the next may go on

    def _take_turn(self, turn: ExitStack) -> bool:
        """Wait until few other large layers are compressed; return false if the layer has failed meanwhile."""
        while not _large.acquire(timeout=_PATIENCE):
            if self._failure is not None:
                return False
        turn.callback(_large.release)
        return True

    def _attempt(self, pieces: Sequence[TarPiece] | None) -> None:
        began = time.monotonic()
        try:
            if pieces is None:
                self._store(self._compressor.flush())
                self._toc = self._compressor.toc if isinstance(self._compressor, ChunkedCompressor) else None
                return
            for block in _joined(pieces) if self._out is None else (b"".join(piece.data for piece in pieces),):
                packed = self._compressor.compress(block)
                self._tar.update(block)
                self._store(packed)
            if self._tee is not None:
                self._tee(pieces)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that writes
            self._failure = error
        self._busy += time.monotonic() - began

    def _store(self, packed: bytes) -> None:
        if packed:
            if self._blob is not self._tar:
                self._blob.update(packed)
            if self._out is not None:
                self._out.write(packed)
            self._stored += len(packed)


def _joined(pieces: Sequence[TarPiece]) -> Iterator[bytes]:
    """Yield the bytes of pieces; small ones are joined."""
    small: list[bytes] = []
    for data, _, _ in pieces:
        if len(data) < _SMALL:
            small.append(data)
            continue
        yield b"".join(small)
        small.clear()
        yield data
    yield b"".join(small)
