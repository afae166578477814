"""An image into a registry, straight from the blobs: only what the registry lacks is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.cache.blobs import Blobs
from buildkit.digest import Digest
from buildkit.errors import DamagedError, RegistryError
from buildkit.oci.image import Image
from buildkit.oci.ref import Ref
from buildkit.tools.registry import Registries
from buildkit.tools.skopeo import write_layout

_LITTLE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did: the manifest's digest, the bytes that went up, and the blobs among them."""

    digest: Digest
    size: int
    blobs: tuple[Digest, ...]


def push_image(image: Image, refs: Sequence[Ref], blobs: Blobs, registries: Registries) -> Pushed:
    """Make every one of ``refs`` name the image; nothing is sent to those that do.

    Raises LackingError for blobs that are neither there nor here, DamagedError for those that were damaged here (they
    are removed), RegistryError, ToolError or Interrupted.
    """
    manifest = image.oci_manifest()
    found = {ref: _find(ref, registries) for ref in refs}
    lacking = {ref: there for ref, there in found.items() if there != manifest}
    sent = _push(image, lacking, blobs, registries) if lacking else ()
    sizes = {layer.blob.digest: layer.blob.size for layer in image.layers}
    size = len(manifest) * len(lacking) + (len(image.config_blob()) if lacking else 0)
    return Pushed(digest=Digest.of(manifest), size=size + sum(sizes.get(digest, 0) for digest in sent), blobs=sent)


def _push(
    image: Image, lacking: Mapping[Ref, bytes | None], blobs: Blobs, registries: Registries
) -> tuple[Digest, ...]:
    """Push to ``lacking``, each with the manifest that is there; the blobs that went up."""
    sent: list[Digest] = []
    with blobs.working_folder() as folder:
        _lay_out(folder, image, blobs)
        for ref, there in lacking.items():
            try:
                sent += registries.push(folder, ref, notes=_missing(image, there) > _LITTLE)
            except DamagedError as error:
                blobs.drop_damaged(map(Digest, error.digests))
                raise
    return tuple(sent)


def _find(ref: Ref, registries: Registries) -> bytes | None:
    try:
        return registries.manifest(ref)
    except RegistryError as error:
        if error.denied:
            return None  # so some answer for a repository that is not there yet; if we may not, pushing says so
        raise


def _missing(image: Image, found: bytes | None) -> int:
    """Bytes of the layers that the manifest under the tag does not name."""
    return sum(layer.blob.size for layer in image.layers if str(layer.blob.digest).encode() not in (found or b""))


def _lay_out(folder: Path, image: Image, blobs: Blobs) -> None:
    write_layout(folder, image.oci_manifest(), image.config_blob())
    for blob in dict.fromkeys(layer.blob for layer in image.layers):
        if blobs.has(blob.digest, blob.size):  # else the registry is expected to have it
            (folder / blob.digest.hex).symlink_to(blobs.path(blob.digest))
