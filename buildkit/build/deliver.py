"""Imports images into local storage, so that podman can run them; only layers that storage lacks are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, DamagedError, LostError, ToolError
from buildkit.layers.tar.member import Compression
from buildkit.lazy_dataclass import dataclass
from buildkit.oci.blob import Blob
from buildkit.oci.image import DOCKER_MANIFEST, Image
from buildkit.store.blobs import Blobs
from buildkit.store.layer_bytes import LayerBytes
from buildkit.tools import skopeo
from buildkit.tools.own_storage import may_have, may_hide
from buildkit.tools.process import find_tool
from buildkit.worker_pool import WorkerPool

if TYPE_CHECKING:
    from buildkit.imagestore.image_store import ImageStore

_LOOKUPS_AT_ONCE = 4
_LOCAL = "localhost/"  # other names may be written in several ways


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An image in local storage: the bytes of its manifest, and diff_ids if buildkit wrote it."""

    manifest: bytes
    diff_ids: tuple[DiffId, ...]

    def is_copy(self, image: Image) -> bool:
        """Return whether it has the config of an image, by which storage knows it, whatever its manifest says else."""
        config = json.loads(self.manifest).get("config") or {}
        return config.get("digest") == str(Digest.of(image.config_blob()))


def find_stored(ref: str) -> Stored | None:
    """Find the image under ``ref``; the uncompressed layers of its Docker manifest are named by their diff_ids."""
    if ref.startswith(_LOCAL) and "@" not in ref and find_tool("skopeo") and not may_have(ref):
        return None  # so says skopeo, which takes 20 ms to start; there is a lookup for every stage
    manifest = skopeo.raw_manifest(ref)
    return None if manifest is None else Stored(manifest=manifest, diff_ids=_read_diff_ids(manifest))


def find_visible(ref: str, store: ImageStore | None) -> Stored | None:
    """Find the image that the tools find under ``ref``; no tool is asked if only the image store can have it.

    Raises ToolError.
    """
    if store is None:
        return find_stored(ref)
    try:
        image = store.find_image(ref)
    except BuildError:  # a damaged image of the store, of which the tools decide what it is worth
        return find_stored(ref)
    if may_hide((ref, *([image.id] if image else ())), store.folder):
        return find_stored(ref)
    return Stored(manifest=image.manifest, diff_ids=_read_diff_ids(image.manifest)) if image else None


def _read_diff_ids(manifest: bytes) -> tuple[DiffId, ...]:
    """Read what this host's storage holds; it only saves work, so it needs none of the checks of `oci.manifest`."""
    parsed = json.loads(manifest)
    layers = parsed.get("layers", ()) if parsed.get("mediaType") == DOCKER_MANIFEST else ()
    return tuple(DiffId.parse(layer["digest"]) for layer in layers)


def import_image(
    image: Image, ref: str, layers: LayerBytes, relatives: Iterable[str] = (), stored: Stored | None = None
) -> int:
    """Make ``ref`` name the image in local storage; return the bytes imported (uncompressed).

    The blobs are imported under an OCI manifest, which alone may name zstd, as an image without a name. Then the same
    config gets the name and a Docker manifest of uncompressed layers, which storage has by now: podman reads
    HEALTHCHECK only from images of that type. So the name moves once, when the whole image is in storage.

    ``relatives`` are images that may share its lower layers, for the count of bytes; ``stored`` is the known image
    under ``ref``. Raises ToolError, and LostError for blobs that the cache lacks, or that were damaged and are removed
    now: a new plan builds them.
    """
    manifest, blobs_of_image = image.docker_manifest(), [layer.blob for layer in image.layers]
    own = stored or find_stored(ref)
    if own is not None and own.manifest == manifest:
        return 0
    with WorkerPool(_LOOKUPS_AT_ONCE) as pool:
        others = pool.map(lambda other: _common(find_stored(other), blobs_of_image), sorted({*relatives} - {ref}))
        shared = _common(own, blobs_of_image) if own else max(others, default=0)
        if shared < len(blobs_of_image):
            import_nameless(image, layers)  # meanwhile, storage answers for the relatives
        shared = max(shared, *others, 0)
    put_manifest(image, ref, layers.blobs)
    return sum(blob.unpacked for blob in blobs_of_image[shared:])


def put_manifest(image: Image, ref: str, blobs: Blobs) -> None:
    """Give an image, all layers of which local storage has, its Docker manifest and a name."""
    with blobs.working_folder() as folder:
        skopeo.write_layout(folder, image.docker_manifest(), image.config_blob())
        skopeo.copy_dir_to_storage(folder, ref)


def import_nameless(image: Image, layers: LayerBytes) -> str:
    """Import the image's layers as an image without a name; return its id.

    A layer that only the image store has is imported as its tar. Raises ToolError, DamagedError for a damaged tree, and
    LostError as `import_image` does.
    """
    blobs, config = layers.blobs, image.config_blob()
    stored = replace(image, layers=tuple(replace(layer, blob=_as_stored(layer.blob, layers)) for layer in image.layers))
    with blobs.working_folder() as folder:
        skopeo.write_layout(folder, stored.oci_manifest(), config)
        for blob in dict.fromkeys(layer.blob for layer in stored.layers):  # an image may have one layer twice
            if layers.has_blob(blob) or not layers.has_tree(blob):
                (folder / blob.digest.hex).symlink_to(blobs.path(blob.digest))
            else:
                _write_tar(layers.open_tar(blob), folder / blob.digest.hex)
        with removing_damaged([layer.blob for layer in stored.layers if not layers.has_tree(layer.blob)], blobs):
            skopeo.copy_dir_to_storage(folder, f"@{Digest.of(config).hex}")
    return Digest.of(config).hex


def _as_stored(blob: Blob, layers: LayerBytes) -> Blob:
    """Return the blob, or the one that is the plain tar of a layer that only the image store has."""
    if layers.has_blob(blob) or not layers.has_tree(blob):
        return blob
    return replace(blob, digest=Digest(blob.diff_id.hex), size=blob.unpacked, compression=Compression.NONE)


def _write_tar(chunks: Iterable[bytes], path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(chunks)


@contextmanager
def removing_damaged(imported: Iterable[Blob], blobs: Blobs) -> Iterator[None]:
    """If an import fails, verify the cached blobs: storage verifies what it reads, but does not name what failed."""
    try:
        yield
    except ToolError as error:
        damaged = blobs.drop_damaged(blob.digest for blob in imported)
        missing = [blob.digest for blob in imported if not blobs.has(blob.digest, blob.size)]
        lost = dict.fromkeys((*damaged, *missing))
        if not lost:
            raise
        what = "were damaged, and are removed" if damaged else "are gone from the cache"
        message = f"{len(lost)} cached layers {what}: {', '.join(digest.short for digest in lost)}"
        hint, digests = "build again to rebuild them", tuple(digest.hex for digest in damaged)
        if digests:
            raise DamagedError(message, digests=digests, hint=hint, output=error.output) from error
        raise LostError(message, hint=hint, output=error.output) from error


def _common(stored: Stored | None, layers: Sequence[Blob]) -> int:
    """Return how many layers, from the lowest, a stored image shares with the wanted ones."""
    pairs = zip(stored.diff_ids if stored else (), layers, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1].diff_id, pairs))
