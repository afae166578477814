"""Indexes of one image for several processors (OCI image index). Pure; those of others are distrusted."""

from __future__ import annotations

import json
from collections.abc import Sequence

from buildkit.digest import Digest
from buildkit.hostile_json import MalformedError
from buildkit.lazy_dataclass import dataclass
from buildkit.oci.image import OCI_INDEX, OCI_MANIFEST
from buildkit.oci.manifest import parse_manifest_json

_MOST = 64  # images of an index
_MAX_SIZE = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedImage:
    """An image of an index: its processor in OCI's terms (``arm64``), and digest and size of its manifest."""

    arch: str
    digest: Digest
    size: int


def render_image_index(images: Sequence[IndexedImage]) -> bytes:
    """Return the index of ``images``, sorted by processor: the order in which they were made does not matter."""
    manifests = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(image.digest),
            "size": image.size,
            "platform": {"architecture": image.arch, "os": "linux"},
        }
        for image in sorted(images, key=lambda image: image.arch)
    ]
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    return json.dumps(value, separators=(",", ":")).encode()


def parse_image_index(data: bytes) -> tuple[IndexedImage, ...]:
    """Read an index that a push of ours may have written.

    Raises MalformedError for any other: with another image for the same processor, another system, or anything more
    than `render_image_index` writes, so that no reader can take another image from it.
    """
    entries = parse_manifest_json(data, "the index").member("manifests").items(_MOST)
    images = tuple(
        IndexedImage(
            arch=entry.member("platform").member("architecture").text(),
            digest=entry.member("digest").parsed(Digest.parse, "a digest"),
            size=entry.member("size").integer(1, _MAX_SIZE),
        )
        for entry in entries
    )
    if len({image.arch for image in images}) < len(images):
        raise MalformedError("the index has two images for one processor")
    if render_image_index(images) != data:
        raise MalformedError("the index is not one that a push writes")
    return images
