"""Artifacts attached to an image in a registry: manifests whose subject it is. Pure; documents are distrusted.

Distribution specification 1.1, "referrers": an artifact manifest has ``subject`` and ``artifactType``. Where a
registry has no API that lists them, an index under the tag ``sha256-HEX`` does (the *referrers tag schema*).
Signatures and attestations of cosign are manifests under ``sha256-HEX.sig`` and ``.att``, with a layer for each.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from buildkit.digest import Digest
from buildkit.hostile_json import JsonValue, MalformedError
from buildkit.oci.image import OCI_INDEX, OCI_MANIFEST
from buildkit.oci.manifest import parse_manifest_json
from buildkit.remote.cache_manifest import EMPTY, EMPTY_TYPE

_IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
_MAX_REFERRERS = 1000
_MAX_LAYERS = 1000  # a signature for each tag that was ever signed
_MAX_ANNOTATIONS = 1000
_MAX_SIZE = 1 << 40

SIGNATURE = "dev.cosignproject.cosign/signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPart:
    """A layer of an artifact: media type, digest, size in bytes, annotations."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, media_type: str, data: bytes, annotations: Mapping[str, str] | None = None) -> ArtifactPart:
        """Return the part whose bytes are ``data``."""
        return cls(media_type=media_type, digest=Digest.of(data), size=len(data), annotations=annotations or {})

    def as_json(self) -> dict[str, Any]:
        """Return its descriptor."""
        descriptor = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        return descriptor | ({"annotations": dict(sorted(self.annotations.items()))} if self.annotations else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedArtifact:
    """A manifest attached to an image; ``kind`` is its artifact type, ``subject`` the digest of the image."""

    kind: str
    subject: Digest | None
    parts: tuple[ArtifactPart, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Referrer:
    """A line of an index of referrers. ``raw`` is the whole descriptor, with members that buildkit does not write."""

    digest: Digest
    kind: str
    annotations: Mapping[str, str]
    raw: Mapping[str, Any]


def referrers_tag(image: Digest) -> str:
    """Return the tag of the index of an image's referrers."""
    return f"sha256-{image.hex}"


def signatures_tag(image: Digest) -> str:
    """Return cosign's tag for an image's signatures."""
    return f"sha256-{image.hex}.sig"


def attestations_tag(image: Digest) -> str:
    """Return cosign's tag for an image's attestations."""
    return f"sha256-{image.hex}.att"


def encode_artifact(
    kind: str, parts: Iterable[ArtifactPart], subject: ArtifactPart, annotations: Mapping[str, str]
) -> bytes:
    """Return a manifest attached to ``subject``; its config is the empty blob."""
    return _encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": ArtifactPart.of(EMPTY_TYPE, EMPTY).as_json(),
            "layers": [part.as_json() for part in parts],
            "subject": subject.as_json(),
            "annotations": dict(sorted(annotations.items())),
        }
    )


def encode_cosign(parts: Sequence[ArtifactPart]) -> tuple[bytes, bytes]:
    """Return a manifest for one of cosign's tags, and its config: an image config that only names its layers."""
    layers = {"type": "layers", "diff_ids": [str(part.digest) for part in parts]}  # stored uncompressed
    config = _encode({"architecture": "", "os": "", "config": {}, "rootfs": layers})
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": ArtifactPart.of(_IMAGE_CONFIG, config).as_json(),
        "layers": [part.as_json() for part in parts],
    }
    return _encode(value), config


def decode_artifact(manifest: bytes) -> AttachedArtifact:
    """Read the manifest of an artifact; raises MalformedError."""
    value = _parse(manifest, OCI_MANIFEST, "the manifest")
    kind, subject = value.find("artifactType"), value.find("subject")
    return AttachedArtifact(
        kind=(kind.text() if kind else "") or value.member("config").member("mediaType").text(),
        subject=_digest(subject) if subject else None,
        parts=tuple(map(_read_part, value.member("layers").items(_MAX_LAYERS))),
        annotations=_annotations(value),
    )


def decode_index(index: bytes) -> tuple[Referrer, ...]:
    """Read an index of referrers; raises MalformedError."""
    value = _parse(index, OCI_INDEX, "the index")
    return tuple(map(_read_referrer, value.member("manifests").items(_MAX_REFERRERS)))


def describe(manifest: bytes, *, kind: bool) -> dict[str, Any]:
    """Return the line of an index for an artifact of ours; with ``kind`` it has an artifact type."""
    artifact = decode_artifact(manifest)
    return {
        **ArtifactPart.of(OCI_MANIFEST, manifest, artifact.annotations).as_json(),
        **({"artifactType": artifact.kind} if kind else {}),
    }


def encode_index(known: Iterable[Referrer], dropped: Collection[Digest], added: Iterable[Mapping[str, Any]]) -> bytes:
    """Return an index of the ``known`` lines, unchanged, without ``dropped``, and of those that are ``added``."""
    listed = [dict(line.raw) for line in known if line.digest not in dropped]
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*listed, *map(dict, added)]}
    return _encode(value)


def _read_part(layer: JsonValue) -> ArtifactPart:
    return ArtifactPart(
        media_type=layer.member("mediaType").text(),
        digest=_digest(layer),
        size=layer.member("size").integer(0, _MAX_SIZE),
        annotations=_annotations(layer),
    )


def _read_referrer(line: JsonValue) -> Referrer:
    kind = line.find("artifactType")
    return Referrer(
        digest=_digest(line), kind=kind.text() if kind else "", annotations=_annotations(line), raw=line.raw
    )


def _digest(descriptor: JsonValue) -> Digest:
    return descriptor.member("digest").parsed(Digest.parse, "a digest")


def _annotations(value: JsonValue) -> dict[str, str]:
    annotations = value.find("annotations")
    return annotations.text_table(_MAX_ANNOTATIONS) if annotations else {}


def _parse(data: bytes, media_type: str, what: str) -> JsonValue:
    value = parse_manifest_json(data, what)
    if value.has("mediaType") and value.member("mediaType").text() != media_type:
        raise MalformedError(f"{what} has another media type")
    try:
        _encode(value.raw)  # the lines of others are written again, and JSON can escape what is not Unicode
    except UnicodeEncodeError as error:
        raise MalformedError(f"{what} contains a text that is not Unicode") from error
    return value


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
