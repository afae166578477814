"""What is attached to an image in a registry: manifests whose subject it is. Pure; what is read is distrusted.

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
from buildkit.oci.image import OCI_MANIFEST
from buildkit.remote.cache_record import EMPTY, EMPTY_TYPE

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
_READ_BYTES = 4 << 20  # that skopeo reads of a manifest
_MOST_LISTED = 1000
_MOST_LAYERS = 100
_MOST_SIZE = 1 << 40
_WRONG = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)

SIGNATURE = "dev.cosignproject.cosign/signature"


class MalformedArtifactError(ValueError):
    """What is no manifest or index, or none that can be believed; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPart:
    """A layer of an artifact: media type, digest, bytes, annotations."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, media_type: str, data: bytes, annotations: Mapping[str, str] | None = None) -> ArtifactPart:
        """The part whose bytes are ``data``."""
        return cls(media_type=media_type, digest=Digest.of(data), size=len(data), annotations=annotations or {})

    def as_json(self) -> dict[str, Any]:
        """Its descriptor."""
        made = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        return made | ({"annotations": dict(sorted(self.annotations.items()))} if self.annotations else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A manifest that is attached to an image; ``kind`` is its artifact type, ``subject`` the image's manifest."""

    kind: str
    subject: Digest | None
    parts: tuple[ArtifactPart, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Referrer:
    """One line of an index of referrers. ``raw`` is its descriptor with whatever others have put there."""

    digest: Digest
    kind: str
    annotations: Mapping[str, str]
    raw: Mapping[str, Any]


def referrers_tag(image: Digest) -> str:
    """The tag under which an image's referrers are listed."""
    return f"sha256-{image.hex}"


def signatures_tag(image: Digest) -> str:
    """cosign's, for signatures."""
    return f"sha256-{image.hex}.sig"


def attestations_tag(image: Digest) -> str:
    """cosign's, for attestations."""
    return f"sha256-{image.hex}.att"


def encode_artifact(
    kind: str, parts: Iterable[ArtifactPart], subject: ArtifactPart, annotations: Mapping[str, str]
) -> bytes:
    """A manifest attached to ``subject``; its config is the empty blob."""
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
    """A manifest for one of cosign's tags, and its config: that of an image, which says nothing but its layers."""
    layers = {"type": "layers", "diff_ids": [str(part.digest) for part in parts]}  # they are stored as they are
    config = _encode({"architecture": "", "os": "", "config": {}, "rootfs": layers})
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": ArtifactPart.of(_IMAGE_CONFIG, config).as_json(),
        "layers": [part.as_json() for part in parts],
    }
    return _encode(value), config


def decode_artifact(manifest: bytes) -> Artifact:
    """Read a manifest; raises Misshapen."""
    value = _load(manifest, OCI_MANIFEST)
    try:
        layers = value["layers"]
        if not isinstance(layers, list) or len(layers) > _MOST_LAYERS:
            raise MalformedArtifactError("it has no list of layers, or more than can be")
        subject = value.get("subject")
        return Artifact(
            kind=_text(value.get("artifactType") or value["config"]["mediaType"]),
            subject=None if subject is None else Digest.parse(subject["digest"]),
            parts=tuple(_read_part(layer) for layer in layers),
            annotations=_texts(value.get("annotations")),
        )
    except MalformedArtifactError:
        raise
    except _WRONG as error:
        raise MalformedArtifactError(f"it cannot be read: {type(error).__name__}") from error


def decode_index(index: bytes) -> tuple[Referrer, ...]:
    """Read an index of referrers; raises Misshapen."""
    value = _load(index, OCI_INDEX)
    try:
        listed = value["manifests"]
        if not isinstance(listed, list) or len(listed) > _MOST_LISTED:
            raise MalformedArtifactError("it has no list of manifests, or a longer one than can be")
        return tuple(
            Referrer(
                digest=Digest.parse(one["digest"]),
                kind=_text(one.get("artifactType") or ""),
                annotations=_texts(one.get("annotations")),
                raw=one,
            )
            for one in listed
        )
    except MalformedArtifactError:
        raise
    except _WRONG as error:
        raise MalformedArtifactError(f"it cannot be read: {type(error).__name__}") from error


def describe(manifest: bytes, *, kind: bool) -> dict[str, Any]:
    """The line of an index for an artifact of ours; ``kind`` says whether it has an artifact type."""
    artifact = decode_artifact(manifest)
    return {
        **ArtifactPart.of(OCI_MANIFEST, manifest, artifact.annotations).as_json(),
        **({"artifactType": artifact.kind} if kind else {}),
    }


def encode_index(known: Iterable[Referrer], dropped: Collection[Digest], added: Iterable[Mapping[str, Any]]) -> bytes:
    """An index of what is known, as it stands there, less ``dropped``, and of what is ``added``."""
    listed = [dict(one.raw) for one in known if one.digest not in dropped]
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*listed, *map(dict, added)]}
    return _encode(value)


def _read_part(layer: dict[str, Any]) -> ArtifactPart:
    size = layer["size"]
    if type(size) is not int or not 0 <= size <= _MOST_SIZE:
        raise MalformedArtifactError("a layer of it has an impossible size")
    return ArtifactPart(
        media_type=_text(layer["mediaType"]),
        digest=Digest.parse(layer["digest"]),
        size=size,
        annotations=_texts(layer.get("annotations")),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedArtifactError("a text is missing in it")
    return value


def _texts(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedArtifactError("its annotations are no table")
    return {key: _text(text) for key, text in value.items()}


def _load(data: bytes, kind: str) -> dict[str, Any]:
    if len(data) > _READ_BYTES:
        raise MalformedArtifactError("it is larger than a manifest can be")
    try:
        value = json.loads(data, parse_constant=_refuse)
        _encode(value)  # lines of others are written again, and JSON may escape what is no text
    except (ValueError, RecursionError) as error:
        raise MalformedArtifactError(f"it is no JSON: {type(error).__name__}") from error
    if not isinstance(value, dict) or value.get("schemaVersion") != 2:
        raise MalformedArtifactError("it is no manifest")
    if value.get("mediaType", kind) != kind:
        raise MalformedArtifactError("it is a manifest of another type")
    return value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
