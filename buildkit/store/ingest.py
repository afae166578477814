"""Verify files that a registry delivered, move them into the cache, and unpack them into an image store."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from buildkit.digest import DiffId, Digest
from buildkit.errors import MismatchError
from buildkit.layers.tar.blob_stream import BlobStream
from buildkit.layers.tar.decompress import ReadableFile, inflate_file
from buildkit.layers.tar.member import MAGIC_SIZE, Compression
from buildkit.layers.tar.read_ahead import read_ahead
from buildkit.oci.blob import Blob
from buildkit.store.blobs import Blobs
from buildkit.store.layer_bytes import TreeOutput

OpenTree = Callable[[], AbstractContextManager[TreeOutput | None]]
"""Opens the output of one layer's tree, as a context manager; of None if no image store takes it."""

OpenFile = Callable[[Path], AbstractContextManager[ReadableFile]]
"""Opens a file whose end is only found if its digest has been verified."""

ReadTar = Callable[[Iterator[bytes]], object]
"""Reads a tar, or a part of it."""


def _ignore(_tar: Iterator[bytes]) -> None:
    """Read nothing."""


def ingest_blob(
    path: Path,
    digest: Digest,
    diff_id: DiffId,
    blobs: Blobs,
    *,
    max_unpacked: int | None = None,
    open_tree: OpenTree = nullcontext,
    read: ReadTar = _ignore,
    open_file: OpenFile | None = None,
) -> Blob:
    """Verify a layer's file against both hashes, unpack it, and move it into the cache; all in one pass.

    ``read`` gets the tar meanwhile, before it is known whether it is the right one. ``open_file`` is for a file that
    others verify. Raises MismatchError, also if it unpacks to more than ``max_unpacked`` bytes, and what the tree
    and ``open_file`` raise.
    """
    if open_file is None:
        verify_digest(path, digest)
        open_file = open_whole
    with open_file(path) as file:
        compression = Compression.detect(file.read(MAGIC_SIZE))
    with open_file(path) as file:
        with open_tree() as tree, read_ahead(inflate_file(file, compression)) as chunks:
            unpacked = Unpacking(chunks, digest, max_unpacked).write_tree(tree, diff_id, read)
        size = path.stat().st_size
        blobs.adopt(path, blobs.path(digest))
    return Blob(digest=digest, diff_id=diff_id, size=size, unpacked=unpacked, compression=compression)


def open_whole(path: Path) -> AbstractContextManager[ReadableFile]:
    """Open a file that is complete."""
    return path.open("rb")


class Unpacking:
    """The chunks of a tar, for two who take them; what is wrong with the layer is not hidden by a reader's errors."""

    def __init__(self, chunks: Iterator[bytes], digest: Digest, most: int | None = None) -> None:
        self._chunks = chunks
        self._digest = digest
        self._most = most
        self._failure: Exception | None = None

    def write_tree(self, tree: TreeOutput | None, diff_id: DiffId, read: ReadTar = _ignore) -> int:
        """Write the layer's tree if there is an output, and name it; return the bytes of the tar.

        Raises MismatchError if the tar cannot be read, is too long, or is another; and what ``tree`` raises.
        """
        with BlobStream(None, Compression.NONE, tee=tree.take if tree else None) as stream:
            self._pass_to(stream.write, read)
            packed = stream.finish()
            if packed.diff_id != diff_id:
                raise MismatchError(f"layer {self._digest.short} unpacks to other bytes than its image says")
            if tree is not None:
                tree.keep(diff_id, packed.unpacked)
        return packed.unpacked

    def _pass_to(self, write: Callable[[bytes], None], read: ReadTar) -> None:
        """Pass every chunk to ``write``, and those that it wants to ``read``."""
        tar = self._take(write)
        try:
            read(tar)
        finally:
            if self._failure is not None:
                raise self._failure
        deque(tar, maxlen=0)

    def _take(self, write: Callable[[bytes], None]) -> Iterator[bytes]:
        unpacked = 0
        try:
            for chunk in self._chunks:
                unpacked += len(chunk)
                if self._most is not None and unpacked > self._most:
                    raise MismatchError(f"layer {self._digest.short} unpacks to more than {self._most} bytes")
                write(chunk)
                yield chunk
        except ValueError as error:
            self._failure = MismatchError(f"layer {self._digest.short} cannot be unpacked: {error}")
            raise self._failure from error
        except Exception as error:
            self._failure = error
            raise


def verify_digest(path: Path, digest: Digest) -> None:
    """Raise MismatchError if a file does not have this digest."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != digest.hex:
        raise MismatchError(f"the registry gave other bytes than {digest.short}")
