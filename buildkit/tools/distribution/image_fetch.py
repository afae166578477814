"""What a manifest lists: which image of an index is fetched, and which blobs. The documents are distrusted."""

from __future__ import annotations

import os

from buildkit.declare.target import deb_arch_of
from buildkit.digest import Digest
from buildkit.hostile_json import JsonValue, MalformedError
from buildkit.oci.image import DOCKER_CONFIG, OCI_CONFIG
from buildkit.oci.manifest import parse_manifest_json

_MOST_PARTS = 10_000
_MOST_BYTES = 1 << 50


def host_arch() -> str:
    """Return the processor of this host by Go's name."""
    machine = os.uname().machine
    return deb_arch_of(machine) or machine


def find_image(index: bytes, arch: str) -> Digest | None:
    """Return the digest of the image for Linux on ``arch`` (Go's name, as in indexes), or None for no index.

    Raises MalformedError, also if the index has no such image.
    """
    value = parse_manifest_json(index)
    if not value.has("manifests"):
        return None
    for entry in value.member("manifests").items(_MOST_PARTS):
        platform = entry.find("platform")
        if platform and (_text(platform, "os"), _text(platform, "architecture")) == ("linux", arch):
            return entry.member("digest").parsed(Digest.parse, "a digest")
    raise MalformedError(f"no image found in the index for Linux on {arch}")


def list_blobs(manifest: bytes, most: int = 0) -> list[tuple[Digest, int]]:
    """Return digest and size of the config and the layers, lowest first, each once; raises MalformedError.

    None may have more than ``most`` bytes, if that is not 0.
    """
    value = parse_manifest_json(manifest)
    parts = (value.member("config"), *value.member("layers").items(_MOST_PARTS))
    blobs = {
        part.member("digest").parsed(Digest.parse, "a digest"): part.member("size").integer(0, _MOST_BYTES)
        for part in parts
    }
    if most and max(blobs.values()) > most:
        raise MalformedError(f"file too large: a blob of {max(blobs.values())} bytes")
    return list(blobs.items())


def find_image_blobs(manifest: bytes) -> frozenset[Digest]:
    """Return the digests of an image's config and layers; none for an index, an artifact and what is malformed."""
    try:
        if parse_manifest_json(manifest).member("config").member("mediaType").text() in (OCI_CONFIG, DOCKER_CONFIG):
            return frozenset(digest for digest, _ in list_blobs(manifest))
    except MalformedError:
        pass
    return frozenset()


def _text(value: JsonValue, key: str) -> str:
    found = value.find(key)
    return found.text() if found else ""
