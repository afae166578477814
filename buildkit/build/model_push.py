"""Push locked models to a registry as ModelPack artifacts (https://github.com/modelpack/model-spec), a blob a file.

A file is its own blob, so a registry that has it gets nothing, and `oci:` sources are locked without reading weights.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.context import BuildContext
from buildkit.build.model_files import ensure_download, open_model_file
from buildkit.digest import Digest
from buildkit.errors import RegistryError
from buildkit.events import step
from buildkit.locks.pins import Model
from buildkit.oci.model_artifact import render_model_artifact
from buildkit.oci.reference import Ref
from buildkit.remote.referrers import ReferrerStore, SignedImage
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import write_layout

if TYPE_CHECKING:
    from buildkit.tools.keys import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedModel:
    """A model in a registry: the digest of its manifest, the bytes of its files, and how many of them went up."""

    name: str
    ref: Ref
    digest: Digest
    size: int
    uploaded: int


def push_model(
    context: BuildContext, registries: RegistryClient, model: Model, ref: Ref, signer: Signer | None = None
) -> PushedModel:
    """Make ``ref`` the model, signed as cosign does it; nothing is sent if it is.

    The signature says the model's name as its stage. Raises RegistryError, MismatchError and LostError.
    """
    files = sorted(model.files, key=lambda file: file.path)
    named = [(file.path, Digest(file.sha256.hex), file.size) for file in files]
    manifest, config = render_model_artifact(model.name, model.version, model.license, named)
    digest, size = Digest.of(manifest), sum(file.size for file in files)
    went_up: tuple[Digest, ...] = ()
    if _find(registries, ref) != digest:
        went_up = _send(context, registries, model, ref, (manifest, config))
    if signer is not None:
        image = SignedImage(repository=ref, stage=model.name)
        ReferrerStore(image, manifest, registries, context.blobs).attach([], signer, context.stop.wait)
    sizes = {blob: length for _, blob, length in named}
    uploaded = sum(sizes.get(blob, 0) for blob in went_up)
    return PushedModel(name=model.name, ref=ref, digest=digest, size=size, uploaded=uploaded)


def _find(registries: RegistryClient, ref: Ref) -> Digest | None:
    try:
        return registries.digest(ref)
    except RegistryError as error:
        if not error.denied:  # some deny what does not exist; if access is denied, the push fails
            raise
        return None


def _send(
    context: BuildContext, registries: RegistryClient, model: Model, ref: Ref, documents: tuple[bytes, bytes]
) -> tuple[Digest, ...]:
    with (
        step(context.emit, f"push {model.name}", "push") as running,
        context.blobs.working_folder() as folder,
        ExitStack() as opened,
    ):
        write_layout(folder, *documents)
        for file in model.files:
            blob = folder / file.sha256.hex
            if not blob.is_symlink():
                ensure_download(context, model, file, running.progress)
                content = opened.enter_context(open_model_file(context, model, file))
                blob.symlink_to(Path(content.name).absolute())
        return registries.push(folder, ref, PushDetails(report=running.progress))
