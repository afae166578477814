"""What is said of an image, and by whom: in-toto statements, DSSE envelopes, and payloads of image signatures.

- in-toto attestation framework, Statement v1: a predicate about subjects, which are named by digest.
- DSSE v1: the bytes that are signed are type and body, each with its length (``pre-authentication encoding``).
- Simple signing, as cosign and containers/image write it: a JSON text that names repository and manifest.

What is read comes from a registry and is distrusted: sizes, nesting and types have limits.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from buildkit.digest import Digest, canonical_json

STATEMENT = "https://in-toto.io/Statement/v1"
STATEMENT_TYPE = "application/vnd.in-toto+json"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
SIMPLE_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
PROVENANCE = "https://slsa.dev/provenance/v1"
CYCLONEDX = "https://cyclonedx.org/bom"
MOST_BYTES = 32 << 20  # of a statement or an envelope: a bill of materials of a large image has some megabytes
_MOST_SUBJECTS = 64
_MOST_SIGNATURES = 16
_WRONG = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


class Unbelievable(ValueError):
    """What is no statement, or none that can be believed; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A predicate about subjects (name and digest). ``predicate`` is a JSON object that nobody has looked into."""

    subjects: tuple[tuple[str, Digest], ...]
    predicate_type: str
    predicate: dict[str, Any]

    def is_about(self, digest: Digest) -> bool:
        """Whether this is one of its subjects."""
        return any(digest == known for _, known in self.subjects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A DSSE envelope: the body, its type, and signatures of `signed`."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]

    @property
    def signed(self) -> bytes:
        """The bytes that signatures are of."""
        return pre_authenticate(self.payload_type, self.payload)


def render_statement(statement: Statement) -> bytes:
    """JSON; equal statements give equal bytes."""
    value = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest.hex}} for name, digest in statement.subjects],
        "predicateType": statement.predicate_type,
        "predicate": statement.predicate,
    }
    return canonical_json(value).encode()


def parse_statement(data: bytes) -> Statement:
    """Read a statement; raises Unbelievable."""
    value = _load(data, "statement")
    try:
        if value["_type"] != STATEMENT:
            raise Unbelievable("it is no in-toto statement of version 1")
        kind, predicate, subjects = value["predicateType"], value["predicate"], value["subject"]
        if not (isinstance(kind, str) and isinstance(predicate, dict) and isinstance(subjects, list)):
            raise Unbelievable("its parts are not what a statement's are")
        if not 1 <= len(subjects) <= _MOST_SUBJECTS:
            raise Unbelievable("it is about nothing, or about more than can be")
        about = tuple((str(one.get("name", "")), Digest(one["digest"]["sha256"])) for one in subjects)
    except Unbelievable:
        raise
    except _WRONG as error:
        raise Unbelievable(f"it cannot be read: {type(error).__name__}") from error
    return Statement(subjects=about, predicate_type=kind, predicate=predicate)


def pre_authenticate(kind: str, body: bytes) -> bytes:
    """What a signature of ``body`` is made over."""
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(body), body)


def render_envelope(envelope: Envelope) -> bytes:
    """JSON, as cosign writes it: key ids are left empty, for whoever verifies has the key."""
    value = {
        "payloadType": envelope.payload_type,
        "payload": base64.b64encode(envelope.payload).decode("ascii"),
        "signatures": [{"keyid": "", "sig": base64.b64encode(one).decode("ascii")} for one in envelope.signatures],
    }
    return canonical_json(value).encode()


def parse_envelope(data: bytes) -> Envelope:
    """Read an envelope; raises Unbelievable. Nothing is verified."""
    value = _load(data, "envelope")
    try:
        signatures = value["signatures"]
        if not isinstance(signatures, list) or not 1 <= len(signatures) <= _MOST_SIGNATURES:
            raise Unbelievable("it has no signatures, or more than can be")
        kind = value["payloadType"]
        if kind != STATEMENT_TYPE:
            raise Unbelievable("what it holds is no in-toto statement")
        payload = _decode(value["payload"])
        found = tuple(_decode(one["sig"]) for one in signatures)
    except Unbelievable:
        raise
    except _WRONG as error:
        raise Unbelievable(f"it cannot be read: {type(error).__name__}") from error
    return Envelope(payload_type=kind, payload=payload, signatures=found)


def render_claim(repository: str, digest: Digest) -> bytes:
    """What an image's signature is made over: that this manifest is of this repository.

    The repository has no tag, so that one signature is good for all names (containers-policy.json(5) calls that
    ``matchRepository``; cosign writes the same).
    """
    value = {
        "critical": {
            "identity": {"docker-reference": repository},
            "image": {"docker-manifest-digest": str(digest)},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    return json.dumps(value, separators=(",", ":")).encode()


def _decode(text: object) -> bytes:
    """Base64 of either alphabet, as DSSE allows."""
    if not isinstance(text, str):
        raise Unbelievable("a text is missing in it")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise Unbelievable("it holds what is no base64") from error


def _load(data: bytes, what: str) -> dict[str, Any]:
    if len(data) > MOST_BYTES:
        raise Unbelievable(f"the {what} is larger than one can be")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unbelievable(f"the {what} is no JSON: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise Unbelievable(f"the {what} is no JSON object")
    return value
