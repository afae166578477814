"""What is attached to an image in a registry, read and judged: its signature, its bill of materials, its provenance.

Everything here was written by whoever may write to the registry, so that nothing is believed: sizes are limited before
and while something is fetched, digests are held against what was asked for, and a statement counts only if it is
attached to this image, speaks of this image, and, where a key is given, has that key's signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

NAMES = {CYCLONEDX: "sbom", PROVENANCE: "provenance"}
_MOST_READ = 24  # attestations of one image


class State(StrEnum):
    """How something stands that may be attached to an image."""

    GOOD = "good"
    MISSING = "missing"
    REFUSED = "refused"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One thing that may be attached: ``signature``, ``sbom`` or ``provenance``; why it is not good, and if signed."""

    kind: str
    state: State
    why: str = ""
    signed: bool = False

    def as_json(self) -> dict[str, Any]:
        """``{"kind", "state", "signed", "why"}``."""
        return {"kind": self.kind, "state": self.state.value, "signed": self.signed, "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An attestation that was read: a statement, or why it is not believed."""

    kind: str
    statement: Statement | None = None
    signed: bool = False
    why: str = ""


Check = Callable[[Statement], str]
"""Says what does not agree, or nothing."""


class Reader:
    """Reads what is attached to ``image`` in a repository; ``key`` is whose signatures count, None for anybody's."""

    def __init__(
        self, repository: Ref, image: Digest, registries: RegistryClient, blobs: Blobs, key: Verifier | None
    ) -> None:
        self._repository = replace(repository, tag="", digest=None)
        self._image = image
        self._registries = registries
        self._blobs = blobs
        self._key = key

    def signature(self) -> Proof:
        """Whether the key has signed the image; raises RegistryError where the registry does not answer."""
        manifest = self._registries.manifest(self._repository.tagged(signatures_tag(self._image)))
        key = self._key
        if manifest is None:
            return Proof(kind="signature", state=State.MISSING, why="the image is not signed")
        if key is None:
            return Proof(kind="signature", state=State.UNCHECKED, why="there is one: say whose it must be by --key")
        try:
            parts = decode_artifact(manifest).parts
        except MalformedError as error:
            return Proof(kind="signature", state=State.REFUSED, why=f"signatures: {error}")
        # what was signed is known, so nothing needs to be fetched: another text has another digest
        claim = render_claim(self._repository.repository, self._image)
        ours = [part for part in parts if part.media_type == SIMPLE_TYPE and part.digest == Digest.of(claim)]
        if any(key.verify(claim, read_signature(part)) for part in ours):
            return Proof(kind="signature", state=State.GOOD, signed=True)
        why = "its signatures are of another image or another name" if not ours else "its signatures are not this key's"
        return Proof(kind="signature", state=State.REFUSED, why=why)

    def attestations(self, checks: dict[str, Check]) -> list[Proof]:
        """Judge attestations by their predicate types; raises RegistryError where the registry does not answer."""
        try:
            found = self._read()
        except MalformedError as error:
            why = f"what is attached is listed in a way that cannot be read: {error}"
            return [Proof(kind=NAMES[kind], state=State.REFUSED, why=why) for kind in checks]
        return [self._judge(kind, check, [one for one in found if one.kind == kind]) for kind, check in checks.items()]

    def _judge(self, kind: str, check: Check, found: Sequence[Found]) -> Proof:
        name = NAMES[kind]
        if not found:
            return Proof(kind=name, state=State.MISSING, why="none is attached")
        whys = []
        for one in found:
            why = one.why or (check(one.statement) if one.statement else "")
            if not why:
                return Proof(kind=name, state=State.GOOD, signed=one.signed)
            whys.append(why)
        more = f" (and {len(whys) - 1} more are refused)" if len(whys) > 1 else ""
        return Proof(kind=name, state=State.REFUSED, why=f"{whys[0]}{more}")

    def _read(self) -> list[Found]:
        index = self._registries.manifest(self._repository.tagged(referrers_tag(self._image)))
        listed = () if index is None else decode_index(index)
        wanted = [(one.digest, one.annotations[PREDICATE]) for one in listed if one.annotations.get(PREDICATE) in NAMES]
        return [self._open(digest, kind) for digest, kind in reversed(wanted[-_MOST_READ:])]

    def _open(self, digest: Digest, kind: str) -> Found:
        try:
            return self._open_artifact(replace(self._repository, digest=digest), kind)
        except MalformedError as error:
            return Found(kind=kind, why=str(error))
        except (RegistryError, ToolError) as error:
            if isinstance(error, RegistryError) and (error.down or error.denied):
                raise
            return Found(kind=kind, why=f"it cannot be fetched: {error.message}")

    def _open_artifact(self, ref: Ref, kind: str) -> Found:
        manifest = self._registries.manifest(ref)
        if manifest is None:
            return Found(kind=kind, why="it is listed, but it is not there")
        artifact = decode_artifact(manifest)
        if artifact.subject != self._image:
            return Found(kind=kind, why="it is attached to another image")
        if artifact.kind != STATEMENT_TYPE or len(artifact.parts) != 1:
            return Found(kind=kind, why="it is no attestation of buildkit's form")
        part = artifact.parts[0]
        data = self._fetch(ref, part)
        signed = False
        if part.media_type == ENVELOPE_TYPE:
            envelope = parse_envelope(data)
            key = self._key
            signed = key is not None and any(key.verify(envelope.signed, one) for one in envelope.signatures)
            if key is not None and not signed:
                return Found(kind=kind, why="its signature is not this key's, or not of this text")
            data = envelope.payload
        elif part.media_type != STATEMENT_TYPE:
            return Found(kind=kind, why="it is no attestation of buildkit's form")
        elif self._key is not None:
            return Found(kind=kind, why="it is not signed")
        statement = parse_statement(data)
        if statement.predicate_type != kind:
            return Found(kind=kind, why="it is listed as another kind than it is")
        if not statement.is_about(self._image):
            return Found(kind=kind, why="it speaks of another image")
        return Found(kind=kind, statement=statement, signed=signed)

    def _fetch(self, ref: Ref, part: ArtifactPart) -> bytes:
        """The bytes of a part, as its digest says; raises MalformedError for too many."""
        if part.size > MAX_BYTES:
            raise MalformedError("it is larger than an attestation can be")
        with self._blobs.working_folder() as folder:
            self._registries.fetch(ref, folder, most=MAX_BYTES)
            try:
                with (folder / part.digest.hex).open("rb") as file:
                    data = file.read(MAX_BYTES + 1)
            except OSError as error:
                raise BuildError(f"{ref}: it has no blob {part.digest.short}") from error
        if len(data) > MAX_BYTES or Digest.of(data) != part.digest:
            raise MalformedError("its bytes are not those that its digest names")
        return data
