"""Attestations of a built image: its bill of materials and its provenance, signed if a key is given."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.planner import Planner
from buildkit.build.sbom import sbom
from buildkit.digest import Digest
from buildkit.plan.compose import Composition
from buildkit.plan.spec import PackWheels, Spec
from buildkit.remote.referrers import ReferrerStore
from buildkit.supply.provenance import Source, find_builder, make_provenance
from buildkit.supply.statement import CYCLONEDX, PROVENANCE, Statement
from buildkit.tools.git import find_commit
from buildkit.tools.registry import RegistryClient

if TYPE_CHECKING:
    from buildkit.oci.reference import Ref
    from buildkit.tools.keys import Signer

_SOURCE = "org.opencontainers.image.source"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationRequest:
    """What is to be said of images that are pushed: attestations, and whose signature is put under everything."""

    attest: bool = False
    signer: Signer | None = None


def open_attestations(*, attest: bool, key: Path | None) -> AttestationRequest | None:
    """What options ask for, None for nothing; the key is read now. Raises DefinitionError, MissingTool."""
    if key is None:
        return AttestationRequest(attest=True) if attest else None
    from buildkit.tools.keys import PASSWORD, load_signer

    return AttestationRequest(attest=attest, signer=load_signer(key, os.environ.get(PASSWORD, "")))


def attach_attestations(
    planner: Planner, composition: Composition, manifest: bytes, ref: Ref, saying: AttestationRequest
) -> int:
    """Attach and sign what is asked for, once for a repository; returns the bytes that went up.

    Raises BuildError, RegistryError or Interrupted; the image itself has been pushed.
    """
    context = planner.context
    attacher = ReferrerStore(ref, manifest, RegistryClient(context.stop), context.blobs)
    statements = make_statements(planner, composition, Digest.of(manifest), ref) if saying.attest else []
    attacher.attach(statements, saying.signer, context.stop.wait)
    return attacher.size


def make_statements(planner: Planner, composition: Composition, image: Digest, ref: Ref) -> list[Statement]:
    """The bill of materials and the provenance of an image whose layers are all made."""
    project, stage = planner.context.project, composition.stage.name
    commit = find_commit(project.folder)
    source = Source(
        commit=commit.id if commit else "",
        dirty=bool(commit and commit.dirty),
        url=dict(composition.config.labels).get(_SOURCE, ""),
    )
    made = planner.context.state.results
    known = {spec.key: made[spec.key] for spec in composition.specs}
    builder = find_builder(os.environ, _version())
    provenance = make_provenance(composition, compiling(planner, composition), known, source, builder)
    statement = Statement(
        subjects=((replace(ref, tag="", digest=None).repository, image),),
        predicate_type=PROVENANCE,
        predicate=provenance,
    )
    bill = json.loads(sbom(planner, stage, "cyclonedx"))
    return [replace(statement, predicate_type=CYCLONEDX, predicate=bill), statement]


def _version() -> str:
    try:
        return version("xoe-buildkit")
    except PackageNotFoundError:
        return "0"


def compiling(planner: Planner, composition: Composition) -> tuple[Spec, ...]:
    """Layers of the stage in which wheels of an image were compiled; none where it has no such wheel."""
    works = (spec.work for spec in composition.specs)
    if any(isinstance(work, PackWheels) and work.compiled for work in works):
        return planner.composer.builder.specs
    return ()
