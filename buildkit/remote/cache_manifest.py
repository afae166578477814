"""The manifests of the remote cache: OCI artifacts that describe layers in an annotation.

The annotation ``io.xoe.buildkit.layers`` is base64 of zlib of JSON, ``{"format": 2, "layers": [LAYER, …]}`` (image
specification, manifest.md, "guidelines for artifact usage"). skopeo reads neither manifests nor configs above 4 MiB,
so anything larger is not published.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from buildkit.digest import Digest, canonical_json
from buildkit.hostile_json import JsonValue, MalformedError, inflate_limited, parse_json
from buildkit.oci.image import OCI_MANIFEST
from buildkit.oci.manifest import parse_manifest_json

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
FORMAT = 2
MAX_MANIFEST = 4 << 20
"""Bytes of a manifest, a config, or the native facts of a stage."""
MAX_UNPACKED = 8 << 20
"""Bytes of a description, or of the native facts of a stage, unpacked."""
_ANNOTATION = "io.xoe.buildkit.layers"
_MAX_LAYERS = 10_000
_VERSION = 1 << 31


def encode_manifest(
    kind: str, config: dict[str, Any], layers: Sequence[dict[str, Any]], described: Iterable[dict[str, Any]]
) -> bytes:
    """Return the manifest of artifact type ``kind``; raises MalformedError if it is too large to be read again."""
    description = canonical_json({"format": FORMAT, "layers": list(described)}).encode()
    packed = base64.b64encode(zlib.compress(description, 9)).decode("ascii")
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": config,
        "layers": layers,
        "annotations": {_ANNOTATION: packed},
    }
    manifest = json.dumps(value, separators=(",", ":")).encode()
    if len(manifest) > MAX_MANIFEST or len(description) > MAX_UNPACKED:
        raise MalformedError("the manifest would be too large")
    return manifest


def decode_manifest(manifest: bytes, kind: str, what: str) -> tuple[JsonValue, list[JsonValue]]:
    """Return the manifest and the layers that it describes; raises MalformedError."""
    value = parse_manifest_json(manifest, what)
    if value.member("artifactType").text() != kind:
        raise MalformedError(f"{what} has another artifact type")
    packed = value.member("annotations").member(_ANNOTATION).base64(MAX_MANIFEST)
    description = parse_json(inflate_limited(packed, limit=MAX_UNPACKED, what=what), limit=MAX_UNPACKED, what=what)
    check_format(description, what)
    return value, description.member("layers").items(_MAX_LAYERS)


def check_format(value: JsonValue, what: str) -> None:
    """Raise MalformedError for a document of another format version."""
    if value.member("format").integer(0, _VERSION) != FORMAT:
        raise MalformedError(f"{what} was written by another version of buildkit")


def descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    """Return the descriptor of a blob."""
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}
