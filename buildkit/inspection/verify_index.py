"""Verify an index of images for several processors: each of them, and that it names nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from buildkit.digest import Digest
from buildkit.errors import BuildError
from buildkit.hostile_json import MalformedError
from buildkit.inspection.verify_image import ImageVerification, format_proof, render_verdict
from buildkit.oci.image_index import IndexedImage, parse_image_index
from buildkit.oci.manifest import parse_manifest_json
from buildkit.oci.reference import Ref
from buildkit.remote.verification import AttachmentVerdict, VerdictState
from buildkit.tools.registry import RegistryClient


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryIndex:
    """An index in its registry: its digest, and its images."""

    ref: Ref
    digest: Digest
    images: tuple[IndexedImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexVerification:
    """The verdicts on an index: on its signature, and on its images by processor."""

    index: RegistryIndex
    stage: str
    signature: AttachmentVerdict
    images: tuple[tuple[str, ImageVerification], ...]
    must_be_signed: bool = False

    @property
    def holds(self) -> bool:
        """Whether every image is that of this checkout, and no attached or required proof is wrong."""
        state = self.signature.state
        signed = state is VerdictState.GOOD if self.must_be_signed else state is not VerdictState.REFUSED
        return signed and bool(self.images) and all(verdict.holds for _, verdict in self.images)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as docs/delivery.md describes it."""
        return {
            "ref": str(self.index.ref),
            "digest": str(self.index.digest),
            "stage": self.stage,
            "holds": self.holds,
            "attached": [self.signature.as_json()],
            "images": [{"arch": arch, **verdict.as_json()} for arch, verdict in self.images],
        }


def find_index(ref: Ref, registries: RegistryClient) -> RegistryIndex | None:
    """Return the index that a reference names, None if it names no index.

    Raises BuildError for one that a push of ours does not write, and RegistryError.
    """
    manifest = registries.manifest(ref)
    if not manifest:
        return None
    try:
        if not parse_manifest_json(manifest).has("manifests"):
            return None
        images = parse_image_index(manifest)
    except MalformedError as error:
        raise BuildError(f"{ref}: not an image that can be verified: {error}") from error
    return RegistryIndex(ref=ref, digest=Digest.of(manifest), images=images)


def render_index_verdict(verdict: IndexVerification) -> list[str]:
    """Return the verdict as lines for people: on the index, then on each image."""
    index = verdict.index
    arches = ", ".join(image.arch for image in index.images)
    head = f"{index.ref}@{index.digest}: an index of {len(index.images)} images ({arches})"
    return [head, f"  {format_proof(verdict.signature)}", *_render_images(verdict.images)]


def _render_images(images: Iterable[tuple[str, ImageVerification]]) -> Iterable[str]:
    for _, image in images:
        yield from render_verdict(image)
