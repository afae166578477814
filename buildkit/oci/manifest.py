"""Read manifests, indexes and configs of images that others made. Pure; the documents are distrusted.

One document must mean one thing to every reader. So a manifest or an index, OCI's or Docker's, has no key but those of
its specification: extensions belong into annotations, where the specification wants them. A config may have other
keys, as Docker and its builders write some, but none that differs from a known one in case alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.digest import DiffId, Digest
from buildkit.hostile_json import JsonValue, MalformedError, parse_json
from buildkit.oci.image import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

_MAX_MANIFEST = 4 << 20  # skopeo reads no larger ones
_MAX_CONFIG = 4 << 20
_MAX_LAYERS = 10_000
_MAX_SIZE = 1 << 50
_VERSION = 1 << 31

_MANIFEST_KEYS = {"schemaVersion", "mediaType", "artifactType", "config", "layers", "subject", "annotations"}
_INDEX_KEYS = {"schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations"}
_DESCRIPTOR_KEYS = {"mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"}
_PLATFORM_KEYS = {"architecture", "os", "os.version", "os.features", "variant", "features"}
_CONFIG_KEYS = {
    "created", "author", "architecture", "os", "os.version", "os.features", "variant", "config", "rootfs", "history",
}  # fmt: skip
_RUN_KEYS = {
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "ArgsEscaped",
    "Healthcheck", "OnBuild", "Shell", "StopTimeout",
}  # fmt: skip
_HEALTH_KEYS = {"Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"}
_ROOTFS_KEYS = {"type", "diff_ids"}
_HISTORY_KEYS = {"created", "created_by", "author", "comment", "empty_layer"}


class ImageIndexError(MalformedError):
    """The manifest is an index of several images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageManifest:
    """The digest of an image's config, and digest and size of its layers, lowest first."""

    config: Digest
    layers: tuple[tuple[Digest, int], ...]


def parse_manifest_json(data: bytes, what: str = "the manifest") -> JsonValue:
    """Parse a manifest or an index without reading what it lists; ``what`` names it in messages.

    Raises MalformedError if it is not one of OCI or Docker (schema 2), or if any of its keys is unknown or doubled.
    """
    if not data:
        raise MalformedError(f"{what} is empty, or too large to be read")
    value = parse_json(data, limit=_MAX_MANIFEST, what=what)
    is_index = value.has("manifests")
    value.with_keys(_INDEX_KEYS if is_index else _MANIFEST_KEYS)
    if value.member("schemaVersion").integer(0, _VERSION) != 2:
        raise MalformedError(f"{what} has another schema version")
    media_types = (OCI_INDEX, DOCKER_INDEX) if is_index else (OCI_MANIFEST, DOCKER_MANIFEST)
    if value.has("mediaType") and value.member("mediaType").text() not in media_types:
        raise MalformedError(f"{what} has another media type")
    listed = value.find("manifests" if is_index else "layers")
    parts = [*(listed.items(_MAX_LAYERS) if listed else ()), value.find("config"), value.find("subject")]
    for part in parts:
        if part is not None:
            _check_descriptor(part)
    return value


def parse_manifest(data: bytes) -> ImageManifest:
    """Read an OCI or Docker manifest; raises MalformedError, and ImageIndexError for an index of several images."""
    value = parse_manifest_json(data)
    if value.has("manifests"):
        raise ImageIndexError("it is an index of several images")
    layers = value.member("layers").items(_MAX_LAYERS)
    return ImageManifest(
        config=_digest(value.member("config")),
        layers=tuple((_digest(layer), layer.member("size").integer(0, _MAX_SIZE)) for layer in layers),
    )


def parse_config_json(data: bytes, what: str = "the config") -> JsonValue:
    """Parse an image config; raises MalformedError if a key is doubled, or differs from a known one in case alone."""
    value = parse_json(data, limit=_MAX_CONFIG, what=what).with_keys(_CONFIG_KEYS, others=True)
    runs, history = value.find("config"), value.find("history")
    health = runs.find("Healthcheck") if runs and _is_object(runs) else None
    lines = history.items(_MAX_LAYERS) if history and isinstance(history.raw, list) else []
    parts = [(runs, _RUN_KEYS), (health, _HEALTH_KEYS), (value.find("rootfs"), _ROOTFS_KEYS)]
    for part, keys in (*parts, *((line, _HISTORY_KEYS) for line in lines)):
        if part and _is_object(part):  # who needs a value checks its type
            part.with_keys(keys, others=True)
    return value


def parse_config(data: bytes) -> tuple[JsonValue, tuple[DiffId, ...]]:
    """Read an image config; return it with its layers' diff_ids. Raises MalformedError."""
    value = parse_config_json(data)
    diff_ids = value.member("rootfs").member("diff_ids").items(_MAX_LAYERS)
    return value, tuple(item.parsed(DiffId.parse, "a diff_id") for item in diff_ids)


def _is_object(value: JsonValue) -> bool:
    return isinstance(value.raw, dict)


def _check_descriptor(descriptor: JsonValue) -> None:
    platform = descriptor.with_keys(_DESCRIPTOR_KEYS).find("platform")
    if platform is not None:
        platform.with_keys(_PLATFORM_KEYS)


def _digest(descriptor: JsonValue) -> Digest:
    return descriptor.member("digest").parsed(Digest.parse, "a digest")
