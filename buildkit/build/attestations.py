"""Attests to a built image: attaches its SBOM and provenance, signed by a key or by the identity of the job."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.build.planner import Planner
from buildkit.build.sbom import make_sbom
from buildkit.digest import Digest
from buildkit.plan.compose import Composition
from buildkit.plan.spec import PackWheels, Spec
from buildkit.remote.referrers import ReferrerStore, SignedImage
from buildkit.supply.provenance import SourceCheckout, find_builder, make_provenance
from buildkit.supply.statement import COSIGN_SIGN, CYCLONEDX, PROVENANCE, Statement
from buildkit.tools.git import find_commit
from buildkit.tools.registry import RegistryClient

if TYPE_CHECKING:
    from buildkit.oci.reference import Ref
    from buildkit.tools.identity import IdentitySigner
    from buildkit.tools.keys import Signer

_SOURCE = "org.opencontainers.image.source"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationRequest:
    """Whether pushed images get an SBOM and provenance, what signs all of it, and whether each tag is signed, too."""

    attest: bool = False
    signer: Signer | None = None
    identity: IdentitySigner | None = None
    sign_tags: bool = False


def open_attestations(
    *, attest: bool, key: Path | None, keyless: bool = False, sign_tags: bool = False
) -> AttestationRequest | None:
    """Return the request for these options, None if nothing is requested; loads the key and asks for the identity.

    Raises DefinitionError, MissingTool and ToolError.
    """
    request = AttestationRequest(attest=attest, sign_tags=sign_tags)
    if key is not None:
        from buildkit.tools.keys import PASSWORD, load_signer

        request = replace(request, signer=load_signer(key, os.environ.get(PASSWORD, "")))
    if keyless:
        from buildkit.tools.identity import open_identity

        request = replace(request, identity=open_identity())
    return request if attest or request.signer or request.identity else None


def attach_attestations(
    planner: Planner, composition: Composition, manifest: bytes, refs: Sequence[Ref], request: AttestationRequest
) -> int:
    """Attach the requested statements and signatures to an image pushed as ``refs``; return the bytes uploaded.

    The image itself was pushed before. Raises BuildError, RegistryError or Interrupted.
    """
    context, ref = planner.context, refs[0]
    tags = tuple(ref.tag for ref in refs if ref.tag) if request.sign_tags else ()
    image = SignedImage(repository=ref, stage=composition.stage.name, tags=tags)
    referrers = ReferrerStore(image, manifest, RegistryClient(context.stop), context.blobs)
    statements = make_statements(planner, composition, Digest.of(manifest), ref) if request.attest else []
    referrers.attach(statements, request.signer, context.stop.wait)
    if request.identity is not None:
        about_stage = (("stage", image.stage),)  # as cosign sign -a stage=STAGE
        signed = replace(about_image(Digest.of(manifest), ref, COSIGN_SIGN, {}), annotations=about_stage)
        referrers.attach_bundles([signed, *statements], request.identity, context.stop.wait)
    return referrers.size


def make_statements(planner: Planner, composition: Composition, image: Digest, ref: Ref) -> list[Statement]:
    """Return the SBOM and the provenance of an image whose layers are all built."""
    project, stage = planner.context.project, composition.stage.name
    commit = find_commit(project.folder)
    source = SourceCheckout(
        commit=commit.id if commit else "",
        dirty=bool(commit and commit.dirty),
        url=dict(composition.config.labels).get(_SOURCE, ""),
    )
    results = planner.context.state.results
    known = {spec.key: results[spec.key] for spec in composition.specs}
    builder = find_builder(os.environ, _version())
    provenance = make_provenance(composition, find_builder_specs(planner, composition), known, source, builder)
    sbom = json.loads(make_sbom(planner, stage, "cyclonedx", pushed=True))
    return [about_image(image, ref, CYCLONEDX, sbom), about_image(image, ref, PROVENANCE, provenance)]


def about_image(image: Digest, ref: Ref, kind: str, predicate: dict[str, Any]) -> Statement:
    """Return a statement about an image of a repository."""
    name = replace(ref, tag="", digest=None).repository
    return Statement(subjects=((name, image),), predicate_type=kind, predicate=predicate)


def _version() -> str:
    try:
        return version("xoe-buildkit")
    except PackageNotFoundError:
        return "0"


def find_builder_specs(planner: Planner, composition: Composition) -> tuple[Spec, ...]:
    """Return the layers of the stage that compiled wheels of an image; none if it has no compiled wheel."""
    works = (spec.work for spec in composition.specs)
    if any(isinstance(work, PackWheels) and work.compiled for work in works):
        return planner.composer.builder.specs
    return ()
