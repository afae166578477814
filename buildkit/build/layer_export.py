"""Keep what a container or a Containerfile added to an image in local storage, as blobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from buildkit.build.context import BuildContext
from buildkit.build.layer_writer import LayerWriter
from buildkit.digest import DiffId
from buildkit.errors import MismatchError
from buildkit.layers.tar.blob_stream import BlobStream
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.plan.spec import Spec
from buildkit.tools import skopeo

_CHUNK = 1 << 20


def export_layers(
    context: BuildContext, writer: LayerWriter, image: str, chain: tuple[Spec, ...], watch: Callable[[bytes], None]
) -> tuple[Blob, ...]:
    """Return the layers of a committed image above ``chain`` as blobs; ``watch`` sees all of their bytes.

    Raises MismatchError if local storage gives other bytes than the image says, and what ``watch`` raises.
    """
    below = tuple(blob.diff_id for spec in chain for blob in context.state.results[spec.key].blobs)
    with context.blobs.working_folder() as folder:
        layers = skopeo.copy_upper_layers(image, below, folder)
        return tuple(_keep_layer(context, writer, diff_id, tar, watch) for diff_id, tar in layers)


def _keep_layer(
    context: BuildContext, writer: LayerWriter, diff_id: DiffId, tar: Path, watch: Callable[[bytes], None]
) -> Blob:
    with writer.open(Compression(context.project.compression), foreign_owners=True) as to:
        with BlobStream(to.blob, to.compression, lambda _done: None, to.tee) as blob, tar.open("rb") as file:
            while chunk := file.read(_CHUNK):
                watch(chunk)
                blob.write(chunk)
            packed = blob.finish()
        if packed.diff_id != diff_id:
            raise MismatchError(f"local storage gave a layer of {packed.diff_id} for {diff_id}", hint="build again")
        packed = to.keep(packed)
    context.record_compression(packed)
    return Blob.of(packed)
