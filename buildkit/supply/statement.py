"""In-toto statements about images, DSSE envelopes, and the payloads of image signatures.

- in-toto attestation framework, Statement v1: a predicate about subjects, which are named by digest.
- DSSE v1: the signed bytes are type and body, each with its length (``pre-authentication encoding``).
- Simple signing, as cosign and containers/image write it: a JSON text that names repository and manifest.

Documents come from a registry and are distrusted: sizes, nesting and types have limits.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from buildkit.digest import Digest, canonical_json
from buildkit.hostile_json import JsonValue, MalformedError, parse_json

STATEMENT = "https://in-toto.io/Statement/v1"
STATEMENT_TYPE = "application/vnd.in-toto+json"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
SIMPLE_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PROVENANCE = "https://slsa.dev/provenance/v1"
CYCLONEDX = "https://cyclonedx.org/bom"
COSIGN_SIGN = "https://sigstore.dev/cosign/sign/v1"  # "this is signed", without more
MAX_BYTES = 32 << 20  # of a statement or an envelope: the SBOM of a large image has some megabytes
_MAX_SUBJECTS = 64
_MAX_SIGNATURES = 16
_MAX_SIGNATURE = 1 << 16  # bytes
# readers have to ignore other keys, but must not differ about these
_STATEMENT_KEYS = {"_type", "subject", "predicateType", "predicate"}
_SUBJECT_KEYS = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
_ENVELOPE_KEYS = {"payloadType", "payload", "signatures"}
_SIGNATURE_KEYS = {"keyid", "sig"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A predicate about subjects (name and digest). ``predicate`` is an unchecked JSON object.

    ``annotations``, key and value, say more of each subject; they are written, not read.
    """

    subjects: tuple[tuple[str, Digest], ...]
    predicate_type: str
    predicate: dict[str, Any]
    annotations: tuple[tuple[str, str], ...] = ()

    def is_about(self, digest: Digest) -> bool:
        """Return whether ``digest`` is one of its subjects."""
        return any(digest == known for _, known in self.subjects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A DSSE envelope: the body, its type, and the signatures of `signed`."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]

    @property
    def signed(self) -> bytes:
        """The bytes that are signed."""
        return pre_authenticate(self.payload_type, self.payload)


def render_statement(statement: Statement) -> bytes:
    """Return the JSON of a statement; equal statements give equal bytes."""
    notes = {"annotations": dict(statement.annotations)} if statement.annotations else {}
    value = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest.hex}, **notes} for name, digest in statement.subjects],
        "predicateType": statement.predicate_type,
        "predicate": statement.predicate,
    }
    return canonical_json(value).encode()


def parse_statement(data: bytes) -> Statement:
    """Parse a statement; raises MalformedError."""
    value = parse_json(data, limit=MAX_BYTES, what="the statement").with_keys(_STATEMENT_KEYS, others=True)
    if value.member("_type").text() != STATEMENT:
        raise MalformedError("it is not an in-toto statement of version 1")
    subjects = value.member("subject").items(_MAX_SUBJECTS)
    if not subjects:
        raise MalformedError("the statement has no subject")
    return Statement(
        subjects=tuple(map(_read_subject, subjects)),
        predicate_type=value.member("predicateType").text(),
        predicate=value.member("predicate").raw_object(),
    )


def _read_subject(value: JsonValue) -> tuple[str, Digest]:
    value.with_keys(_SUBJECT_KEYS, others=True)
    name, digest = value.find("name"), value.member("digest").member("sha256")
    return (name.text() if name else "", digest.parsed(Digest, "a SHA-256"))


def pre_authenticate(kind: str, body: bytes) -> bytes:
    """Return the bytes to be signed for a ``body`` of a type."""
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(body), body)


def render_envelope(envelope: Envelope) -> bytes:
    """Return the JSON of an envelope as cosign writes it, with empty key ids: the verifier has the key."""
    value = {
        "payloadType": envelope.payload_type,
        "payload": base64.b64encode(envelope.payload).decode("ascii"),
        "signatures": [
            {"keyid": "", "sig": base64.b64encode(signature).decode("ascii")} for signature in envelope.signatures
        ],
    }
    return canonical_json(value).encode()


def parse_envelope(data: bytes) -> Envelope:
    """Parse an envelope without verifying its signatures; raises MalformedError."""
    value = parse_json(data, limit=MAX_BYTES, what="the envelope").with_keys(_ENVELOPE_KEYS, others=True)
    signatures = [
        item.with_keys(_SIGNATURE_KEYS, others=True) for item in value.member("signatures").items(_MAX_SIGNATURES)
    ]
    if not signatures:
        raise MalformedError("the envelope has no signature")
    payload_type = value.member("payloadType").text()
    if payload_type != STATEMENT_TYPE:
        raise MalformedError("the envelope's payload is not an in-toto statement")
    return Envelope(
        payload_type=payload_type,
        payload=value.member("payload").base64(MAX_BYTES, url_safe=True),
        signatures=tuple(signature.member("sig").base64(_MAX_SIGNATURE, url_safe=True) for signature in signatures),
    )


def render_claim(name: str, digest: Digest, stage: str) -> bytes:
    """Return the payload of an image signature: the claim that this manifest is of this name and this stage.

    ``name`` is a repository, and the signature then valid for all its tags (``matchRepository`` in
    containers-policy.json(5); cosign writes the same), or a repository with a tag (``matchExact``). The stage is an
    annotation as ``cosign sign -a stage=STAGE`` writes it; without one (empty) the text is that of ``cosign sign``.
    """
    value = {
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": str(digest)},
            "type": "cosign container image signature",
        },
        "optional": {"stage": stage} if stage else None,
    }
    return json.dumps(value, separators=(",", ":")).encode()
