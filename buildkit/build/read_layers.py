"""Reads layers of the cache, or of the image store, and verifies what was read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from buildkit.errors import BuildError
from buildkit.oci.blob import Blob
from buildkit.store.layer_bytes import LayerBytes

_DAMAGED = "run: nox -s cache -- verify"


def read_layers(layers: LayerBytes, blobs: Iterable[Blob], read: Callable[[Iterator[bytes], str], object]) -> None:
    """Give the tar of each layer, and what to call it, to ``read``, the lowest first.

    Raises BuildError for a layer that cannot be read, or holds other bytes than its diff_id says.
    """
    for blob in blobs:
        what = f"the layer {blob.digest.short} of the cache"
        found = hashlib.sha256()
        try:
            read(_hashed(layers.open_tar(blob), found.update), what)
        except (BuildError, ValueError) as error:
            raise BuildError(f"{what} cannot be read: {error}", hint=_DAMAGED) from error
        if found.hexdigest() != blob.diff_id.hex:
            raise BuildError(f"{what} holds other bytes than were packed", hint=_DAMAGED)


def _hashed(chunks: Iterable[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in chunks:
        update(chunk)
        yield chunk
