"""Where finished images go: into the image store, which needs no import, or into the user's own local storage."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from buildkit.errors import BuildError, DamagedError, LostError, MismatchError
from buildkit.imagestore.image_store import ImageStore
from buildkit.imagestore.store_folder import store_folder
from buildkit.oci.image import Image, Layer
from buildkit.tools.storage_settings import invisible, is_listed, visible

if TYPE_CHECKING:
    from buildkit.build.context import BuildContext
    from buildkit.oci.blob import Blob


class Delivery(StrEnum):
    """The setting ``delivery``."""

    AUTO = "auto"
    """The image store if the user's podman sees it, else an import."""
    STORE = "store"
    IMPORT = "import"


@contextmanager
def open_delivery(delivery: Delivery) -> Iterator[ImageStore | None]:
    """Open the image store that images are delivered into; None if they are imported.

    Programs that are started in the block see it. Raises BuildError if the store or storage.conf cannot be used.
    """
    folder = store_folder()
    if delivery is Delivery.IMPORT or (delivery is Delivery.AUTO and not is_listed(folder)):
        with invisible(folder, folder / "import.conf"):
            yield None
        return
    store = ImageStore.open(folder)
    with visible(folder, folder / "storage.conf"):
        yield store


def deliver(image: Image, ref: str, context: BuildContext) -> int:
    """Make ``ref`` name the image in the image store; return the bytes of trees that this has written.

    Raises LostError for layers that are not here, or whose blobs were damaged, and are removed now; BuildError.
    """
    store = context.image_store
    assert store is not None  # noqa: S101 - who imports does not deliver
    size = write_trees(image.layers, context)
    store.put_image(image, (ref,))
    return size


def uncover(image: Image, ref: str) -> None:
    """Take the name from another image of the user's own storage, which the tools prefer; that image stays.

    Raises BuildError if it keeps the name.
    """
    if not _is_hidden(ref, image):
        return
    from buildkit.tools.storage import untag

    untag(ref)
    if _is_hidden(ref, image):
        raise BuildError(
            f"{ref}: an image in your own storage has this name, and hides the one of the image store",
            hint=f"podman untag {ref}",
        )


def write_trees(layers: Iterable[Layer], context: BuildContext) -> int:
    """Unpack the layers that the image store lacks from their blobs; return their bytes."""
    store, size = context.image_store, 0
    assert store is not None  # noqa: S101 - who imports writes no trees
    for layer in layers:
        if not store.has_tree(layer.blob.diff_id):
            _write_tree(layer.blob, context, store)
            size += layer.blob.unpacked
    return size


def _write_tree(blob: Blob, context: BuildContext, store: ImageStore) -> None:
    if not context.layers.has_blob(blob):
        raise LostError(f"the layer {blob.digest.short} is gone from the cache", hint="build again to rebuild it")
    hasher, unpacked = hashlib.sha256(), 0
    try:
        with store.writing_tree(foreign_owners=True) as tree:
            for chunk in context.layers.open_tar(blob):
                hasher.update(chunk)
                unpacked += len(chunk)
                tree.write(chunk)
            if hasher.hexdigest() != blob.diff_id.hex:
                raise MismatchError("it unpacks to other bytes")
            tree.keep(blob.diff_id, unpacked)
    except (ValueError, MismatchError) as error:
        damaged = context.blobs.drop_damaged([blob.digest])
        message = f"the cached layer {blob.digest.short} was damaged, and is removed"
        raise DamagedError(message, digests=tuple(d.hex for d in damaged), hint="build again") from error


def _is_hidden(ref: str, image: Image) -> bool:
    from buildkit.build.deliver import find_stored

    found = find_stored(ref)
    return found is not None and found.manifest != image.docker_manifest()


def default_delivery() -> Delivery:
    """Return the delivery of the environment (``BUILDKIT_DELIVERY``), else the automatic one."""
    return Delivery(os.environ.get("BUILDKIT_DELIVERY") or Delivery.AUTO)
