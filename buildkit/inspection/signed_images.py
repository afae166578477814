"""Whether containers run the images that a key has signed, by the parts of `verify-image`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from buildkit.audit.sighting import ImageState, ImageVerdict
from buildkit.build.planner import Planner
from buildkit.declare.target import ARCH_NAMES
from buildkit.digest import Digest
from buildkit.errors import BuildError
from buildkit.inspection.expected_images import find_expected_id
from buildkit.inspection.verify_image import compare_with_stage, read_image
from buildkit.inspection.verify_index import find_index
from buildkit.oci.reference import Ref
from buildkit.remote.verification import AttachmentReader, VerdictState
from buildkit.tools.registry import RegistryClient

if TYPE_CHECKING:
    from buildkit.tools.keys import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedImages:
    """The key that must have signed the images of stages, and their places in registries; without a key, nothing."""

    key: Verifier | None = None
    refs: Mapping[str, Ref] = field(default_factory=dict)

    def find_stage(self, image_name: str) -> str:
        """Return the stage whose place in a registry an image was named by; empty if it is another name."""
        repository = _repository(image_name.partition("@")[0])
        return next((stage for stage, ref in self.refs.items() if ref.repository == repository), "")


def _repository(name: str) -> str:
    """Return an image's name without its tag; a port of the registry is none."""
    before, _, last = name.rpartition("/")
    return f"{before}/{last.partition(':')[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RightImages:
    """The ids of images that containers of a stage may run, and their name in words; or why they are ``unknown``."""

    ids: frozenset[str] = frozenset()
    name: str = ""
    unknown: str = ""

    def judge(self, image: str) -> ImageVerdict:
        """Return the verdict on an image by its id."""
        if self.unknown:
            return ImageVerdict(state=ImageState.UNKNOWN, why=self.unknown)
        if image in self.ids:
            return ImageVerdict(state=ImageState.GOOD)
        return ImageVerdict(state=ImageState.DIFFERS, why=f"it runs {image[:12]}, and {self.name}")


def find_right_images(planner: Planner, stage: str, signed: SignedImages) -> RightImages:
    """Return the images that containers of a stage may run; ``stage`` is empty for what is none of the project.

    With a key, they are the one that the key has signed in the registry, and that which this checkout makes of the same
    layers: the config of a pushed image may have labels of its commit. Without one, it is what this checkout makes.
    """
    if not stage:
        return RightImages(unknown="it is no image of this project")
    if signed.key is not None:
        try:
            return _find_signed(planner, stage, signed)
        except BuildError as error:
            return RightImages(unknown=f"what is signed cannot be read: {error.message}")
    expected = find_expected_id(planner, stage)
    if expected is None:
        hint = f"nox -s build-{stage}"
        return RightImages(unknown=f"this checkout has not built `{stage}` in its present form: {hint}")
    return RightImages(ids=frozenset((expected,)), name=f"`{stage}` of this checkout is {expected[:12]}")


def _find_signed(planner: Planner, stage: str, signed: SignedImages) -> RightImages:
    ref = signed.refs.get(stage)
    if ref is None:
        return RightImages(unknown=f"nothing says where the signed image of `{stage}` is: --signed {stage}=REF")
    registries = RegistryClient(planner.context.stop)
    found = read_image(_of_this_host(planner, ref, registries), registries)
    reader = AttachmentReader(found.ref, found.digest, registries, planner.context.blobs, signed.key)
    signature = reader.signature(stage, planner.graph.stages)
    if signature.state is not VerdictState.GOOD:
        return RightImages(unknown=f"{ref}: {signature.why}")
    right = {Digest.of(found.config).hex}
    ours = find_expected_id(planner, stage)
    if ours is not None and compare_with_stage(planner, found, stage).agrees:
        right.add(ours)
    return RightImages(ids=frozenset(right), name=f"what is signed is {found.digest} of {ref}")


def _of_this_host(planner: Planner, ref: Ref, registries: RegistryClient) -> Ref:
    """Return a reference that names one image: of an index, the one for this host's processor."""
    ref = ref if ref.tag or ref.digest else ref.tagged("latest")
    index = find_index(ref, registries)
    if index is None:
        return ref
    for one in index.images:
        if ARCH_NAMES.get(one.arch, one.arch) == planner.context.project.target.arch:
            return replace(ref, tag="", digest=one.digest)
    raise BuildError(f"{ref}: the index has no image for {planner.context.project.target.arch}")
