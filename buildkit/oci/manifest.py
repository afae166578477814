"""Read manifests and configs of images that others made. Pure; the documents are distrusted."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.digest import DiffId, Digest
from buildkit.hostile_json import JsonValue, MalformedError, parse_json

_MAX_MANIFEST = 4 << 20  # skopeo reads no larger ones
_MAX_CONFIG = 4 << 20
_MAX_LAYERS = 10_000
_MAX_SIZE = 1 << 50


class ImageIndexError(MalformedError):
    """The manifest is an index of several images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageManifest:
    """The digest of an image's config, and digest and size of its layers, lowest first."""

    config: Digest
    layers: tuple[tuple[Digest, int], ...]


def parse_manifest(data: bytes) -> ImageManifest:
    """Read an OCI or Docker manifest; raises MalformedError, and ImageIndexError for an index of several images."""
    value = parse_json(data, limit=_MAX_MANIFEST, what="the manifest")
    if value.has("manifests"):
        raise ImageIndexError("it is an index of several images")
    layers = value.member("layers").items(_MAX_LAYERS)
    return ImageManifest(
        config=_digest(value.member("config")),
        layers=tuple((_digest(layer), layer.member("size").integer(0, _MAX_SIZE)) for layer in layers),
    )


def parse_config(data: bytes) -> tuple[JsonValue, tuple[DiffId, ...]]:
    """Read an image config; return it with its layers' diff_ids. Raises MalformedError."""
    value = parse_json(data, limit=_MAX_CONFIG, what="the config")
    diff_ids = value.member("rootfs").member("diff_ids").items(_MAX_LAYERS)
    return value, tuple(item.parsed(DiffId.parse, "a diff_id") for item in diff_ids)


def _digest(descriptor: JsonValue) -> Digest:
    return descriptor.member("digest").parsed(Digest.parse, "a digest")
