"""Files that a registry gave, verified and made blobs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from buildkit.digest import DiffId, Digest
from buildkit.errors import MismatchError
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import MAGIC_SIZE, Compression
from buildkit.oci.blob import Blob
from buildkit.store.blobs import Blobs


def take_blob(path: Path, digest: Digest, diff_id: DiffId, blobs: Blobs, *, most: int | None = None) -> Blob:
    """Move a layer's file into the cache, its bytes held against both hashes; raises MismatchError.

    ``most`` is how many bytes it may unpack to.
    """
    verify(path, digest)
    with path.open("rb") as file:
        compression = Compression.detect(file.read(MAGIC_SIZE))
    found, unpacked = hashlib.sha256(), 0
    try:
        for chunk in inflate(path, compression):
            found.update(chunk)
            unpacked += len(chunk)
            if most is not None and unpacked > most:
                raise MismatchError(f"layer {digest.short} unpacks to more than {most} bytes")
    except ValueError as error:
        raise MismatchError(f"layer {digest.short} cannot be unpacked: {error}") from error
    if found.hexdigest() != diff_id.hex:
        raise MismatchError(f"layer {digest.short} unpacks to other bytes than its image says")
    size = path.stat().st_size
    blobs.adopt(path, blobs.path(digest))
    return Blob(digest=digest, diff_id=diff_id, size=size, unpacked=unpacked, compression=compression)


def verify(path: Path, digest: Digest) -> None:
    """Raise MismatchError for a file of other bytes."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest.hex:
        raise MismatchError(f"the registry gave other bytes than {digest.short}")
