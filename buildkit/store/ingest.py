"""Verify files that a registry delivered, move them into the cache, and unpack them into an image store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from buildkit.digest import DiffId, Digest
from buildkit.errors import MismatchError
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import MAGIC_SIZE, Compression
from buildkit.oci.blob import Blob
from buildkit.store.blobs import Blobs
from buildkit.store.layer_bytes import TreeOutput

OpenTree = Callable[[], AbstractContextManager[TreeOutput | None]]
"""Opens the output of one layer's tree, as a context manager; of None if no image store takes it."""


def ingest_blob(
    path: Path,
    digest: Digest,
    diff_id: DiffId,
    blobs: Blobs,
    *,
    max_unpacked: int | None = None,
    open_tree: OpenTree = nullcontext,
) -> Blob:
    """Verify a layer's file against both hashes, unpack it, and move it into the cache.

    Raises MismatchError, also if it unpacks to more than ``max_unpacked`` bytes, and what the tree raises.
    """
    verify_digest(path, digest)
    with path.open("rb") as file:
        compression = Compression.detect(file.read(MAGIC_SIZE))
    hasher, unpacked = hashlib.sha256(), 0
    with open_tree() as tree:
        try:
            for chunk in inflate(path, compression):
                hasher.update(chunk)
                unpacked += len(chunk)
                if max_unpacked is not None and unpacked > max_unpacked:
                    raise MismatchError(f"layer {digest.short} unpacks to more than {max_unpacked} bytes")
                if tree is not None:
                    tree.write(chunk)
        except ValueError as error:
            raise MismatchError(f"layer {digest.short} cannot be unpacked: {error}") from error
        if hasher.hexdigest() != diff_id.hex:
            raise MismatchError(f"layer {digest.short} unpacks to other bytes than its image says")
        if tree is not None:
            tree.keep(diff_id, unpacked)
    size = path.stat().st_size
    blobs.adopt(path, blobs.path(digest))
    return Blob(digest=digest, diff_id=diff_id, size=size, unpacked=unpacked, compression=compression)


def verify_digest(path: Path, digest: Digest) -> None:
    """Raise MismatchError if a file does not have this digest."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != digest.hex:
        raise MismatchError(f"the registry gave other bytes than {digest.short}")
