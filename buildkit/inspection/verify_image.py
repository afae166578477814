"""Verify that an image in a registry is made of what the locks of this checkout produce.

Manifest and config are read, but no layer. Every layer must be the result of a key of the stage, in the local or the
remote cache: the blob by its digest, and the tar that the config names by its diff_id. The manifest must be, byte for
byte, the one that a push of the stage writes, so that nothing in it can mean something else to another program.
Attestations must have the image as subject, and agree with the locks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from buildkit.build.assemble import assemble
from buildkit.build.attestations import find_builder_specs
from buildkit.build.commit_labels import label_as
from buildkit.build.planner import Planner
from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError
from buildkit.hostile_json import MalformedError
from buildkit.oci.blob import LayerResult
from buildkit.oci.image import Image
from buildkit.oci.manifest import ImageIndexError, parse_config, parse_manifest
from buildkit.oci.reference import Ref
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Spec
from buildkit.remote.verification import AttachmentVerdict, StatementCheck, VerdictState
from buildkit.report.text import format_bytes, sanitize_line
from buildkit.supply.sbom_agreement import check_cyclonedx, check_provenance
from buildkit.supply.statement import CYCLONEDX, PROVENANCE, Statement
from buildkit.tools.registry import RegistryClient


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryImage:
    """An image in its registry: its manifest, its config, and digest, diff_id and size of every layer."""

    ref: Ref
    manifest: bytes
    config: bytes
    layers: tuple[tuple[Digest, DiffId, int], ...]

    @property
    def digest(self) -> Digest:
        """The digest of its manifest."""
        return Digest.of(self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageVerification:
    """The comparison of an image with a stage.

    ``layers`` are digest, bytes and name of each layer; the name is empty if no lock of the stage produces it.
    ``absent`` are layers of the stage that the image lacks, ``unknown`` those whose result is unknown here.
    ``config`` tells whether order, environment, user, command and labels agree, and ``manifest`` whether the whole
    manifest is the one that a push of the stage writes.
    """

    image: RegistryImage
    stage: str
    layers: tuple[tuple[Digest, int, str], ...]
    absent: tuple[str, ...]
    unknown: tuple[str, ...]
    config: bool
    manifest: bool
    proofs: tuple[AttachmentVerdict, ...] = ()
    wanted: frozenset[str] = frozenset()  # kinds of proofs that are required

    @property
    def agrees(self) -> bool:
        """Whether the image is that of this checkout."""
        named = all(name for _, _, name in self.layers)
        return self.manifest and self.config and named and not self.absent and not self.unknown

    @property
    def holds(self) -> bool:
        """Whether the image agrees and no attached or required proof is wrong."""
        return self.agrees and not any(map(self._is_wrong, self.proofs))

    def _is_wrong(self, proof: AttachmentVerdict) -> bool:
        return proof.state is VerdictState.REFUSED or (
            proof.kind in self.wanted and proof.state is not VerdictState.GOOD
        )

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as docs/delivery.md describes it."""
        return {
            "ref": str(self.image.ref),
            "digest": str(self.image.digest),
            "stage": self.stage,
            "holds": self.holds,
            "config": self.config,
            "manifest": self.manifest,
            "layers": [{"digest": str(d), "size": size, "name": name or None} for d, size, name in self.layers],
            "absent": list(self.absent),
            "unknown": list(self.unknown),
            "attached": [proof.as_json() for proof in self.proofs],
        }


def read_image(ref: Ref, registries: RegistryClient) -> RegistryImage:
    """Read an image's manifest and config; raises BuildError if the reference names no image, and RegistryError."""
    manifest = registries.manifest(ref)
    if manifest is None:
        raise BuildError(f"{ref}: there is no such image")
    try:
        parsed = parse_manifest(manifest)
        config = registries.config(ref)
        if Digest.of(config) != parsed.config:
            raise BuildError(f"{ref}: the registry gave another config than the manifest names")
        _, diff_ids = parse_config(config)
    except ImageIndexError as error:
        raise BuildError(f"{ref} is an index of several images", hint="name one of them by its digest") from error
    except MalformedError as error:
        raise BuildError(f"{ref}: not an image that can be read: {error}") from error
    if len(parsed.layers) != len(diff_ids):
        counts = f"{len(parsed.layers)} layers, but {len(diff_ids)} diff_ids"
        raise BuildError(f"{ref}: not an image that can be read: {counts}")
    layers = tuple((digest, i, size) for (digest, size), i in zip(parsed.layers, diff_ids, strict=True))
    return RegistryImage(ref=ref, manifest=manifest, config=config, layers=layers)


def compare_with_stage(planner: Planner, image: RegistryImage, stage: str) -> ImageVerification:
    """Compare an image with a stage of the checkout."""
    composition = planner.composer.compose(stage)
    present = {(digest, diff_id) for digest, diff_id, _ in image.layers}
    results = {
        spec: result for spec in composition.specs if (result := _find(planner, stage, spec, present)) is not None
    }
    names = {(b.digest, b.diff_id): spec.name for spec, result in results.items() for b in result.blobs}
    ours = _assemble(planner, composition, results) if len(results) == len(composition.specs) else None
    models = _find_models(planner, stage)
    if ours is not None:
        ours = replace(label_as(ours, image.config, planner.context.project), models=models.digest)
    return ImageVerification(
        image=image,
        stage=stage,
        layers=tuple((digest, size, names.get((digest, diff_id), "")) for digest, diff_id, size in image.layers),
        absent=tuple(spec.name for spec, result in results.items() if not _is_in(result, present)),
        unknown=(*(spec.name for spec in composition.specs if spec not in results), *models.unknown),
        config=ours is not None and ours.config_blob() == image.config,
        manifest=ours is not None and ours.oci_manifest() == image.manifest,
    )


def render_verdict(verdict: ImageVerification) -> list[str]:
    """Return the verdict on layers and config, then that on each proof, as lines for people."""
    return [*_render_layers(verdict), *(f"  {format_proof(proof)}" for proof in verdict.proofs)]


def format_proof(proof: AttachmentVerdict) -> str:
    """Return the verdict on one attachment as a line."""
    match proof.state:
        case VerdictState.GOOD:
            agreed = "good" if proof.kind == "signature" else "agrees with image and locks"
            return f"{proof.kind}: {agreed}" + (", signed by this key" if proof.signed and agreed != "good" else "")
        case VerdictState.REFUSED:
            return f"{proof.kind}: refused: {sanitize_line(proof.why)}"
        case _:
            return f"{proof.kind}: {sanitize_line(proof.why)}"


def _render_layers(verdict: ImageVerification) -> list[str]:
    named = str(verdict.image.ref).partition("@")[0]  # an image of an index has its digest there, too
    image, stage = f"{named}@{verdict.image.digest}", verdict.stage
    if verdict.agrees:
        return [f"{image}: all {len(verdict.layers)} layers and the config are what `{stage}` of this checkout makes"]
    foreign = f"no lock of `{stage}` produces it" if not verdict.unknown else "it is none that is known here"
    lines = [f"{image}: not what `{stage}` of this checkout makes"]
    lines += [f"  {digest} ({format_bytes(size)}): {foreign}" for digest, size, name in verdict.layers if not name]
    lines += [f"  {sanitize_line(name)}: the image has it otherwise, or not at all" for name in verdict.absent]
    hint = "not known here: build it, or name a remote cache (--cache REPOSITORY)"
    lines += [f"  {sanitize_line(name)}: {hint}" for name in verdict.unknown]
    if len(lines) == 1:
        what = "their order or the config (command, environment, user, labels …) does not"
        if verdict.config:
            what = "its manifest is not the one that a push of the stage writes"
        lines.append(f"  the layers agree; {what}")
    return lines


def _find(planner: Planner, stage: str, spec: Spec, present: set[tuple[Digest, DiffId]]) -> LayerResult | None:
    """Return the result of a key: the one in the image if the local or remote cache has it, else any known one."""
    local = planner.context.ledger.layers.find([spec.key]).get(spec.key)
    if local is not None and _is_in(local, present):
        return local
    shared = planner.context.remote_cache.find_records(stage, [spec.key]).get(spec.key)
    return shared.result if shared is not None and (local is None or _is_in(shared.result, present)) else local


class _Models(NamedTuple):
    """The manifest of the models that containers of an image mount, and layers of it that are not known here."""

    digest: Digest | None = None
    unknown: tuple[str, ...] = ()


def _find_models(planner: Planner, stage: str) -> _Models:
    mounted = planner.graph.models_stage(stage)
    if not mounted:
        return _Models()
    composition = planner.composer.compose(mounted)
    found = {spec: _find(planner, mounted, spec, set()) for spec in composition.specs}
    known = {spec: result for spec, result in found.items() if result and all(blob.is_made for blob in result.blobs)}
    if unknown := tuple(spec.name for spec in composition.specs if spec not in known):
        return _Models(unknown=unknown)
    return _Models(digest=Digest.of(_assemble(planner, composition, known).oci_manifest()))


def _is_in(result: LayerResult, present: set[tuple[Digest, DiffId]]) -> bool:
    return all((blob.digest, blob.diff_id) in present for blob in result.blobs)


def _assemble(planner: Planner, composition: Composition, results: dict[Spec, LayerResult]) -> Image:
    by_key = {spec.key: result for spec, result in results.items()}
    return assemble(composition.specs, composition.config, by_key, planner.context.project.target.deb_arch)


def make_checks(planner: Planner, image: RegistryImage, stage: str) -> dict[str, StatementCheck]:
    """Return the checks of attestations, by predicate type."""
    composition = planner.composer.compose(stage)
    pairs = [(digest, diff_id) for digest, diff_id, _ in image.layers]

    def check_sbom(statement: Statement) -> str:
        from buildkit.build.sbom import collect_sbom

        return check_cyclonedx(statement.predicate, collect_sbom(planner, stage), composition, pairs)

    def check_origin(statement: Statement) -> str:
        return check_provenance(statement.predicate, composition, find_builder_specs(planner, composition), pairs)

    return {CYCLONEDX: check_sbom, PROVENANCE: check_origin}
