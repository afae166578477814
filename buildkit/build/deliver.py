"""An image into local storage, so that podman runs it: only what storage lacks is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

from buildkit.digest import DiffId, Digest
from buildkit.errors import DamagedError, LostError, ToolError
from buildkit.oci.blob import Blob
from buildkit.oci.image import DOCKER_MANIFEST, Image
from buildkit.store.blobs import Blobs
from buildkit.tools import skopeo

_ASKED_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What local storage holds under a name: the manifest's bytes, and diff_ids where it is one of ours."""

    manifest: bytes
    diff_ids: tuple[DiffId, ...]


def find_stored(ref: str) -> Stored | None:
    """What is stored under ``ref``; layers of a Docker manifest without compression are named by their diff_ids."""
    manifest = skopeo.raw_manifest(ref)
    if manifest is None:
        return None
    found = json.loads(manifest)
    layers = found.get("layers", ()) if found.get("mediaType") == DOCKER_MANIFEST else ()
    return Stored(manifest=manifest, diff_ids=tuple(DiffId.parse(layer["digest"]) for layer in layers))


def import_image(
    image: Image, ref: str, blobs: Blobs, relatives: Iterable[str] = (), stored: Stored | None = None
) -> int:
    """Make ``ref`` name the image in local storage; returns the bytes imported (uncompressed).

    The blobs go in under an OCI manifest, for only that may name zstd, as an image without a name; then the same
    config gets its Docker manifest, of uncompressed layers, which storage has by now, and the name: HEALTHCHECK is
    read from images of that type. So a name is moved once, when all of its image is there.

    ``relatives`` are images that may share its lower layers, for the count of bytes; ``stored`` is what is known to be
    under the name. Raises ToolError, and LostError for blobs that are not in the cache, or were damaged there and are
    removed: a new plan builds them.
    """
    manifest, wanted = image.docker_manifest(), [layer.blob for layer in image.layers]
    own = stored or find_stored(ref)
    if own is not None and own.manifest == manifest:
        return 0
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        others = pool.map(lambda other: _common(find_stored(other), wanted), sorted({*relatives} - {ref}))
        shared = _common(own, wanted) if own else max(others, default=0)
        if shared < len(wanted):
            import_nameless(image, blobs)  # the others answer meanwhile
        shared = max(shared, *others, 0)
    with blobs.working_folder() as folder:
        skopeo.write_layout(folder, manifest, image.config_blob())
        skopeo.copy_dir_to_storage(folder, ref)
    return sum(blob.unpacked for blob in wanted[shared:])


def import_nameless(image: Image, blobs: Blobs) -> str:
    """Bring the image's layers into local storage, as an image without a name; returns its id.

    Raises ToolError, and LostError as `import_image` does.
    """
    config, wanted = image.config_blob(), [layer.blob for layer in image.layers]
    with blobs.working_folder() as folder:
        skopeo.write_layout(folder, image.oci_manifest(), config)
        for blob in dict.fromkeys(wanted):  # an image may have one layer twice
            (folder / blob.digest.hex).symlink_to(blobs.path(blob.digest))
        with _healing(wanted, blobs):
            skopeo.copy_dir_to_storage(folder, f"@{Digest.of(config).hex}")
    return Digest.of(config).hex


@contextmanager
def _healing(wanted: Iterable[Blob], blobs: Blobs) -> Iterator[None]:
    """Storage verifies what it reads; where it fails, what the cache holds is looked at again."""
    try:
        yield
    except ToolError as error:
        damaged = blobs.drop_damaged(blob.digest for blob in wanted)
        missing = [blob.digest for blob in wanted if not blobs.has(blob.digest, blob.size)]
        lost = dict.fromkeys((*damaged, *missing))
        if not lost:
            raise
        what = "were damaged, and are removed" if damaged else "are gone from the cache"
        said = f"{len(lost)} cached layers {what}: {', '.join(digest.short for digest in lost)}"
        hint, digests = "build again: they are made anew", tuple(digest.hex for digest in damaged)
        if digests:
            raise DamagedError(said, digests=digests, hint=hint, output=error.output) from error
        raise LostError(said, hint=hint, output=error.output) from error


def _common(stored: Stored | None, wanted: Sequence[Blob]) -> int:
    """How many layers, from the lowest, a stored image has as they are wanted."""
    pairs = zip(stored.diff_ids if stored else (), wanted, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1].diff_id, pairs))
