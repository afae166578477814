"""Attach attestations and signatures to an image in its registry.

Attestations are artifacts of their own (distribution specification 1.1), pushed by digest and listed in the index under
the referrers tag; registries with the referrers API list them as well. Signed documents are also stored where cosign
and containers/image look for them: under ``sha256-HEX.sig`` and ``.att``. Others write to these tags, too, so they are
read, merged, written and read again. Everything goes through skopeo.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from buildkit.digest import Digest
from buildkit.errors import BuildError
from buildkit.hostile_json import MalformedError
from buildkit.oci.image import OCI_MANIFEST
from buildkit.oci.reference import Ref
from buildkit.remote.artifact import (
    SIGNATURE,
    ArtifactPart,
    Referrer,
    attestations_tag,
    decode_artifact,
    decode_index,
    describe,
    encode_artifact,
    encode_cosign,
    encode_index,
    referrers_tag,
    signatures_tag,
)
from buildkit.remote.cache_manifest import EMPTY
from buildkit.store.blobs import Blobs
from buildkit.supply.statement import (
    BUNDLE_TYPE,
    ENVELOPE_TYPE,
    SIMPLE_TYPE,
    STATEMENT_TYPE,
    Envelope,
    Statement,
    pre_authenticate,
    render_claim,
    render_envelope,
    render_statement,
)
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import write_layout

if TYPE_CHECKING:
    from buildkit.tools.identity import IdentitySigner
    from buildkit.tools.keys import Signer

PREDICATE = "in-toto.io/predicate-type"
BUNDLE_PREDICATE = "dev.sigstore.bundle.predicateType"  # cosign's name for the same in a bundle
SIGNED_BY = "io.xoe.buildkit.signed-by"
_TRIES = 6  # merges into a tag that others write to
_SETTLED = 0.5  # seconds after which a writer that read before we wrote has written
_FOREIGN = ("artifactType", "data")  # members of an index line that skopeo 1.9 would drop


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An attestation to be pushed: its manifest and its only blob."""

    predicate_type: str
    manifest: bytes
    data: bytes
    part: ArtifactPart

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return Digest.of(self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedImage:
    """What a signature says of an image: its repository, its stage, and its tags if they are signed as well."""

    repository: Ref
    stage: str
    tags: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are signed, one signature each."""
        repository = self.repository.repository
        return (repository, *(str(self.repository.tagged(tag)) for tag in self.tags))


class ReferrerStore:
    """Writes the attachments of one image, or of an index of images (``media_type``).

    Methods raise RegistryError, ToolError, BuildError or Interrupted.
    """

    def __init__(
        self,
        image: SignedImage,
        manifest: bytes,
        registries: RegistryClient,
        blobs: Blobs,
        media_type: str = OCI_MANIFEST,
    ) -> None:
        self._image = image
        self._repository = replace(image.repository, tag="", digest=None)
        self._subject = ArtifactPart.of(media_type, manifest)
        self._registries = registries
        self._blobs = blobs
        self.size = 0  # bytes that went up

    def attach(self, statements: Sequence[Statement], signer: Signer | None, pause: Callable[[float], object]) -> None:
        """Attach statements, if any; with a ``signer``, sign them and the image.

        Earlier attestations of ours, of the same type and signed by the same key, are replaced. Registries have no
        compare-and-swap, so after each write ``pause`` is called with a number of seconds, and the tags are read again
        until they are complete.
        """
        self._settle([self._make_attachment(statement, signer) for statement in statements], signer, pause)

    def attach_bundles(
        self, statements: Sequence[Statement], signer: IdentitySigner, pause: Callable[[float], object]
    ) -> None:
        """Attach a Sigstore bundle for each statement, as cosign and GitHub do; raises ToolError, too.

        Earlier bundles of ours, of the same type and signed by the same identity, are replaced.
        """
        self._settle([self._make_bundle(statement, signer) for statement in statements], None, pause)

    def _settle(
        self, attachments: Sequence[Attachment], signer: Signer | None, pause: Callable[[float], object]
    ) -> None:
        for _ in range(_TRIES):
            before = self.size
            if attachments:
                self._attest(attachments, signer)
            if signer is not None:
                self._sign(signer)
            if self.size == before:
                return
            pause(_SETTLED)
        raise _contended(self._repository)

    def _attest(self, attachments: Sequence[Attachment], signer: Signer | None) -> None:
        tag = self._repository.tagged(referrers_tag(self._subject.digest))
        known = self._registries.manifest(tag)
        listed = {line.digest for line in self._read_index(tag, known)}
        for attachment in attachments:
            if attachment.digest not in listed:
                self._push(
                    replace(self._repository, digest=attachment.digest), attachment.manifest, EMPTY, (attachment.data,)
                )
        self._list(tag, attachments)
        if signer is not None:
            parts = [
                replace(attachment.part, annotations=self._cosign_annotations(attachment, signer))
                for attachment in attachments
            ]
            blobs = {attachment.part.digest: attachment.data for attachment in attachments}
            self._merge_parts(attestations_tag(self._subject.digest), parts, blobs, lambda part: _is_ours(part, parts))

    def _sign(self, signer: Signer) -> None:
        """Add a signature of each name to those of the image, unless this key has signed it."""
        claims = [render_claim(name, self._subject.digest, self._image.stage) for name in self._image.names]
        texts = {Digest.of(claim): claim for claim in claims}
        parts = [
            ArtifactPart.of(SIMPLE_TYPE, claim, {SIGNATURE: base64.b64encode(signer.sign(claim)).decode("ascii")})
            for claim in claims
        ]

        def is_ours(known: ArtifactPart) -> bool:
            claim = texts.get(known.digest)
            return claim is not None and signer.public.verify(claim, read_signature(known))

        self._merge_parts(signatures_tag(self._subject.digest), parts, texts, is_ours)

    def _make_attachment(self, statement: Statement, signer: Signer | None) -> Attachment:
        body = render_statement(statement)
        data, kind = body, STATEMENT_TYPE
        if signer is not None:
            signature = signer.sign(pre_authenticate(STATEMENT_TYPE, body))
            data = render_envelope(Envelope(payload_type=STATEMENT_TYPE, payload=body, signatures=(signature,)))
            kind = ENVELOPE_TYPE
        annotations = {PREDICATE: statement.predicate_type, SIGNED_BY: signer.public.id if signer else ""}
        part = ArtifactPart.of(kind, data, {PREDICATE: statement.predicate_type})
        manifest = encode_artifact(STATEMENT_TYPE, [part], self._subject, annotations)
        return Attachment(predicate_type=statement.predicate_type, manifest=manifest, data=data, part=part)

    def _make_bundle(self, statement: Statement, signer: IdentitySigner) -> Attachment:
        data = signer.sign_statement(render_statement(statement))
        annotations = {
            "dev.sigstore.bundle.content": "dsse-envelope",
            BUNDLE_PREDICATE: statement.predicate_type,
            SIGNED_BY: signer.id,
        }
        part = ArtifactPart.of(BUNDLE_TYPE, data)
        manifest = encode_artifact(BUNDLE_TYPE, [part], self._subject, annotations)
        return Attachment(predicate_type=statement.predicate_type, manifest=manifest, data=data, part=part)

    def _list(self, tag: Ref, attachments: Sequence[Attachment]) -> None:
        """List the attachments that were pushed in the index of referrers."""
        identities = [_identity(decode_artifact(attachment.manifest).annotations) for attachment in attachments]
        digests = {attachment.digest for attachment in attachments}
        with_kind = True
        for _ in range(_TRIES):
            known = self._read_index(tag, self._registries.manifest(tag))
            if digests <= {line.digest for line in known}:
                return
            dropped = {
                line.digest for line in known if line.digest in digests or _identity(line.annotations) in identities
            }
            if not with_kind and any(
                key in line.raw for line in known if line.digest not in dropped for key in _FOREIGN
            ):
                raise BuildError(
                    f"{tag}: this skopeo would drop members that others have written there, so nothing was listed",
                    hint="install a newer skopeo (Debian 13's 1.18 keeps them)",
                )
            index = encode_index(
                known, dropped, [describe(attachment.manifest, kind=with_kind) for attachment in attachments]
            )
            with self._blobs.working_folder() as folder:
                write_layout(folder, index, EMPTY)
                if self._registries.push_index(folder, tag):
                    self.size += len(index)
                else:
                    with_kind = False
        raise _contended(tag)

    def _read_index(self, tag: Ref, index: bytes | None) -> Sequence[Referrer]:
        try:
            return () if index is None else decode_index(index)
        except MalformedError as error:
            raise _unreadable(tag, error) from error

    def _merge_parts(
        self,
        tag: str,
        parts: Sequence[ArtifactPart],
        data: Mapping[Digest, bytes],
        is_ours: Callable[[ArtifactPart], bool],
    ) -> None:
        """Ensure that the manifest under one of cosign's tags has ``parts`` in place of those for which ``is_ours``."""
        ref = self._repository.tagged(tag)
        for _ in range(_TRIES):
            manifest = self._registries.manifest(ref)
            try:
                known = () if manifest is None else decode_artifact(manifest).parts
            except MalformedError as error:
                raise _unreadable(ref, error) from error
            ours = [part for part in known if is_ours(part)]
            if {part.digest for part in ours} == {part.digest for part in parts} and len(ours) == len(parts):
                return
            merged, config = encode_cosign([*(part for part in known if not is_ours(part)), *parts])
            self._push(ref, merged, config, [data[part.digest] for part in parts])
        raise _contended(ref)

    def _cosign_annotations(self, attachment: Attachment, signer: Signer) -> Mapping[str, str]:
        return {SIGNATURE: "", "predicateType": attachment.predicate_type, SIGNED_BY: signer.public.id}

    def _push(self, ref: Ref, manifest: bytes, config: bytes, data: Sequence[bytes]) -> None:
        """Push an artifact; the registry has the blobs of parts that others wrote."""
        with self._blobs.working_folder() as folder:
            write_layout(folder, manifest, config)
            for blob in data:
                (folder / Digest.of(blob).hex).write_bytes(blob)
            self._registries.push(folder, ref, PushDetails(notes=False))
        self.size += len(manifest) + len(config) + sum(map(len, data))


def read_signature(part: ArtifactPart) -> bytes:
    """Return the signature in a part of a cosign manifest, empty for none."""
    try:
        return base64.b64decode(part.annotations.get(SIGNATURE, ""), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _identity(annotations: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return what identifies an attestation of ours: its type and who signed; None for one that is not ours."""
    for kind in (PREDICATE, BUNDLE_PREDICATE):
        if {kind, SIGNED_BY} <= annotations.keys():
            return kind, annotations[kind], annotations[SIGNED_BY]
    return None


def _is_ours(part: ArtifactPart, parts: Sequence[ArtifactPart]) -> bool:
    kind, by = part.annotations.get("predicateType"), part.annotations.get(SIGNED_BY)
    return any(kind == p.annotations["predicateType"] and by == p.annotations[SIGNED_BY] for p in parts)


def _unreadable(ref: Ref, error: Exception) -> BuildError:
    return BuildError(
        f"{ref}: the attachments there cannot be read, so none can be added: {error}",
        hint="inspect the tag, and delete it if nobody needs it",
    )


def _contended(ref: Ref) -> BuildError:
    return BuildError(f"{ref}: others keep writing to it", hint="try again")
