"""Read and verify the attachments of an image in a registry: its signature, its SBOM, its provenance.

Anyone with write access to the registry can have written these documents, so nothing is trusted: sizes are limited
before and during a fetch, digests are checked, and a statement counts only if it is attached to this image, is about
this image, and, if a key is given, has that key's signature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from buildkit.digest import Digest
from buildkit.errors import BuildError, RegistryError, ToolError
from buildkit.hostile_json import MalformedError
from buildkit.oci.reference import Ref
from buildkit.remote.artifact import (
    ArtifactPart,
    decode_artifact,
    decode_index,
    referrers_tag,
    signatures_tag,
)
from buildkit.remote.referrers import PREDICATE, read_signature
from buildkit.store.blobs import Blobs
from buildkit.supply.statement import (
    CYCLONEDX,
    ENVELOPE_TYPE,
    MAX_BYTES,
    PROVENANCE,
    SIMPLE_TYPE,
    STATEMENT_TYPE,
    Statement,
    parse_envelope,
    parse_statement,
    render_claim,
)
from buildkit.tools.registry import RegistryClient

if TYPE_CHECKING:
    from buildkit.tools.keys import Verifier

KIND_NAMES = {CYCLONEDX: "sbom", PROVENANCE: "provenance"}
_MAX_ATTESTATIONS = 24  # of one image


class VerdictState(StrEnum):
    """The result of verifying one kind of attachment."""

    GOOD = "good"
    MISSING = "missing"
    REFUSED = "refused"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentVerdict:
    """The verdict on ``signature``, ``sbom`` or ``provenance``: its state, and the reason if it is not good."""

    kind: str
    state: VerdictState
    why: str = ""
    signed: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return ``{"kind", "state", "signed", "why"}``."""
        return {"kind": self.kind, "state": self.state.value, "signed": self.signed, "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAttestation:
    """An attestation that was read: a statement, or the reason why it is refused."""

    kind: str
    statement: Statement | None = None
    signed: bool = False
    why: str = ""


StatementCheck = Callable[[Statement], str]
"""Returns a disagreement, or an empty text."""


def _has_signed(key: Verifier, claim: bytes, parts: Iterable[ArtifactPart]) -> bool:
    """Tell whether the key has signed a known text; nothing needs to be fetched: another text has another digest."""
    ours = [part for part in parts if part.media_type == SIMPLE_TYPE and part.digest == Digest.of(claim)]
    return any(key.verify(claim, read_signature(part)) for part in ours)


class AttachmentReader:
    """Reads the attachments of ``image`` in a repository; only signatures by ``key`` count, or any if it is None."""

    def __init__(
        self, repository: Ref, image: Digest, registries: RegistryClient, blobs: Blobs, key: Verifier | None
    ) -> None:
        self._repository = replace(repository, tag="", digest=None)
        self._image = image
        self._registries = registries
        self._blobs = blobs
        self._key = key

    def signature(self, stage: str, others: Iterable[str] = (), *, tag: str = "") -> AttachmentVerdict:
        """Verify that the key has signed the image as one of ``stage``, and if there is a ``tag``, under that.

        ``others`` are the stages that a refusal may name. Raises RegistryError if the registry does not answer.
        """
        manifest = self._registries.manifest(self._repository.tagged(signatures_tag(self._image)))
        key = self._key
        if manifest is None:
            return AttachmentVerdict(kind="signature", state=VerdictState.MISSING, why="the image is not signed")
        if key is None:
            return AttachmentVerdict(
                kind="signature",
                state=VerdictState.UNCHECKED,
                why="there is one: name a key with --key to verify it",
            )
        try:
            parts = decode_artifact(manifest).parts
        except MalformedError as error:
            return AttachmentVerdict(kind="signature", state=VerdictState.REFUSED, why=f"signatures: {error}")
        name = str(self._repository.tagged(tag)) if tag else self._repository.repository
        claim = render_claim(name, self._image, stage)
        if _has_signed(key, claim, parts):
            return AttachmentVerdict(kind="signature", state=VerdictState.GOOD, signed=True)
        why = self._explain_refusal(key, parts, stage, others, tag)
        return AttachmentVerdict(kind="signature", state=VerdictState.REFUSED, why=why)

    def _explain_refusal(
        self, key: Verifier, parts: Sequence[ArtifactPart], stage: str, others: Iterable[str], tag: str
    ) -> str:
        def has_signed(claimed: str) -> bool:
            return _has_signed(key, render_claim(self._repository.repository, self._image, claimed), parts)

        if tag and has_signed(stage):
            return f"it is signed, but not as `{tag}`: push it with --sign-tags"
        if other := next((other for other in others if has_signed(other)), ""):
            return f"it is signed as `{other}`, not as `{stage}`"
        if has_signed(""):
            return "its signature names no stage: push it again with --sign-by"
        claims = {Digest.of(render_claim(self._repository.repository, self._image, name)) for name in (stage, "")}
        if any(part.digest in claims for part in parts):
            return "its signatures are not this key's"
        return "its signatures are of another image, another name or another stage"

    def attestations(self, checks: dict[str, StatementCheck]) -> list[AttachmentVerdict]:
        """Verify attestations by their predicate types; raises RegistryError if the registry does not answer."""
        try:
            attestations = self._read()
        except MalformedError as error:
            why = f"the list of attachments cannot be read: {error}"
            return [AttachmentVerdict(kind=KIND_NAMES[kind], state=VerdictState.REFUSED, why=why) for kind in checks]
        return [
            self._judge(kind, check, [attestation for attestation in attestations if attestation.kind == kind])
            for kind, check in checks.items()
        ]

    def _judge(self, kind: str, check: StatementCheck, found: Sequence[FoundAttestation]) -> AttachmentVerdict:
        name = KIND_NAMES[kind]
        if not found:
            return AttachmentVerdict(kind=name, state=VerdictState.MISSING, why="none is attached")
        whys = []
        for attestation in found:
            why = attestation.why or (check(attestation.statement) if attestation.statement else "")
            if not why:
                return AttachmentVerdict(kind=name, state=VerdictState.GOOD, signed=attestation.signed)
            whys.append(why)
        more = f" (and {len(whys) - 1} more are refused)" if len(whys) > 1 else ""
        return AttachmentVerdict(kind=name, state=VerdictState.REFUSED, why=f"{whys[0]}{more}")

    def _read(self) -> list[FoundAttestation]:
        index = self._registries.manifest(self._repository.tagged(referrers_tag(self._image)))
        listed = () if index is None else decode_index(index)
        candidates = [
            (referrer.digest, referrer.annotations[PREDICATE])
            for referrer in listed
            if referrer.annotations.get(PREDICATE) in KIND_NAMES
        ]
        return [self._open(digest, kind) for digest, kind in reversed(candidates[-_MAX_ATTESTATIONS:])]

    def _open(self, digest: Digest, kind: str) -> FoundAttestation:
        try:
            return self._open_artifact(replace(self._repository, digest=digest), kind)
        except MalformedError as error:
            return FoundAttestation(kind=kind, why=str(error))
        except (RegistryError, ToolError) as error:
            if isinstance(error, RegistryError) and (error.down or error.denied):
                raise
            return FoundAttestation(kind=kind, why=f"it cannot be fetched: {error.message}")

    def _open_artifact(self, ref: Ref, kind: str) -> FoundAttestation:
        manifest = self._registries.manifest(ref)
        if manifest is None:
            return FoundAttestation(kind=kind, why="it is listed but missing")
        artifact = decode_artifact(manifest)
        if artifact.subject != self._image:
            return FoundAttestation(kind=kind, why="it is attached to another image")
        if artifact.kind != STATEMENT_TYPE or len(artifact.parts) != 1:
            return FoundAttestation(kind=kind, why="it is not an attestation that buildkit writes")
        part = artifact.parts[0]
        data = self._fetch(ref, part)
        signed = False
        if part.media_type == ENVELOPE_TYPE:
            envelope = parse_envelope(data)
            key = self._key
            signed = key is not None and any(
                key.verify(envelope.signed, signature) for signature in envelope.signatures
            )
            if key is not None and not signed:
                return FoundAttestation(kind=kind, why="its signature is not by this key, or not of this text")
            data = envelope.payload
        elif part.media_type != STATEMENT_TYPE:
            return FoundAttestation(kind=kind, why="it is not an attestation that buildkit writes")
        elif self._key is not None:
            return FoundAttestation(kind=kind, why="it is not signed")
        statement = parse_statement(data)
        if statement.predicate_type != kind:
            return FoundAttestation(kind=kind, why="it is listed as another kind")
        if not statement.is_about(self._image):
            return FoundAttestation(kind=kind, why="it is about another image")
        return FoundAttestation(kind=kind, statement=statement, signed=signed)

    def _fetch(self, ref: Ref, part: ArtifactPart) -> bytes:
        """Return the bytes of a part, checked against its digest; raises MalformedError for others or too many."""
        if part.size > MAX_BYTES:
            raise MalformedError(f"it is larger than {MAX_BYTES} bytes")
        with self._blobs.working_folder() as folder:
            self._registries.fetch(ref, folder, most=MAX_BYTES)
            try:
                with (folder / part.digest.hex).open("rb") as file:
                    data = file.read(MAX_BYTES + 1)
            except OSError as error:
                raise BuildError(f"{ref}: it has no blob {part.digest.short}") from error
        if len(data) > MAX_BYTES or Digest.of(data) != part.digest:
            raise MalformedError("its bytes do not match its digest")
        return data
