"""Publishes the index of a stage's images for several processors, after the images themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from buildkit.build.attestations import AttestationRequest, about_image
from buildkit.build.context import BuildContext
from buildkit.declare.target import deb_arch_of
from buildkit.digest import Digest
from buildkit.errors import LostError
from buildkit.events import step
from buildkit.oci.image import OCI_INDEX
from buildkit.oci.image_index import IndexedImage, render_image_index
from buildkit.oci.reference import Ref
from buildkit.remote.referrers import ReferrerStore, SignedImage
from buildkit.supply.statement import COSIGN_SIGN
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import write_layout

if TYPE_CHECKING:
    from buildkit.report.build_report import Report


def publish_index(
    context: BuildContext, targets: Sequence[Ref], reports: Mapping[str, Report], request: AttestationRequest | None
) -> Digest:
    """Let ``targets`` name the index of images that were pushed; ``reports`` are theirs, by processor.

    Raises RegistryError, LostError for an image that the registry no longer has, and what signing raises.
    """
    registries, first = RegistryClient(context.stop), targets[0]
    images = [
        _find_image(arch, replace(first, tag="", digest=Digest.parse(digest)), registries)
        for arch, report in reports.items()
        for digest in report.pushed_as.values()
    ]
    index = render_image_index(images)
    with (
        context.meter.phase("push", str(first)),
        step(context.emit, str(first), "push") as handle,
        context.blobs.working_folder() as folder,
    ):
        write_layout(folder, index)
        for ref in targets:
            if registries.digest(ref) != Digest.of(index):
                registries.push_index(folder, ref)
                handle.size += len(index)
    if request is not None and (request.signer or request.identity):
        _sign(context, targets, reports, index, request)
    return Digest.of(index)


def _find_image(arch: str, ref: Ref, registries: RegistryClient) -> IndexedImage:
    manifest = registries.manifest(ref)
    if not manifest:
        raise LostError(f"{ref}: the image for {arch} was pushed, and is gone", hint="push again")
    return IndexedImage(arch=deb_arch_of(arch), digest=Digest.of(manifest), size=len(manifest))


def _sign(
    context: BuildContext,
    targets: Sequence[Ref],
    reports: Mapping[str, Report],
    index: bytes,
    request: AttestationRequest,
) -> None:
    """Sign an index as its images are signed; SBOM and provenance are attached to each of these."""
    registries, stage = RegistryClient(context.stop), next(iter(reports.values())).stage
    tags = tuple(ref.tag for ref in targets) if request.sign_tags else ()
    image = SignedImage(repository=targets[0], stage=stage, tags=tags)
    referrers = ReferrerStore(image, index, registries, context.blobs, OCI_INDEX)
    with context.meter.phase("attest", str(targets[0])), step(context.emit, str(targets[0]), "attest") as handle:
        if request.signer is not None:
            referrers.attach([], request.signer, context.stop.wait)
        if request.identity is not None:
            signed = about_image(Digest.of(index), targets[0], COSIGN_SIGN, {})
            signed = replace(signed, annotations=(("stage", stage),))
            referrers.attach_bundles([signed], request.identity, context.stop.wait)
        handle.size = referrers.size
