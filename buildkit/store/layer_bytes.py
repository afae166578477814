"""The bytes of layers: blobs in the cache, trees in the image store, or both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from buildkit.digest import DiffId
from buildkit.errors import MismatchError
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import Compression
from buildkit.lazy_dataclass import dataclass
from buildkit.oci.blob import Blob
from buildkit.store.blobs import Blobs

if TYPE_CHECKING:
    from buildkit.layers.tar.blob_stream import TarPiece
    from buildkit.store.file_clone import FileClone


class Trees(Protocol):
    """An image store, as far as it holds layers (``imagestore.image_store.ImageStore``)."""

    def has_tree(self, diff_id: DiffId) -> bool:
        """Return whether the store has the files of a layer; they are not read."""

    def open_tar(self, diff_id: DiffId) -> Iterator[bytes]:
        """Yield the layer's tar in pieces; raises DamagedError if a file was altered."""


class TreeOutput(Protocol):
    """A tree that is being written."""

    def find_clone(self, original: Path) -> FileClone | None:
        """Return a clone of a file, for the tree to take; None where there can be none."""

    def take(self, pieces: Sequence[TarPiece], /) -> None:
        """Add pieces of the layer's tar."""

    def keep(self, diff_id: DiffId, unpacked: int) -> None:
        """Name the tree; the caller has hashed the tar that it wrote, of ``unpacked`` bytes."""


@dataclass(frozen=True, slots=True)
class LayerBytes:
    """Finds and reads layers; ``trees`` is None where no image store is used."""

    blobs: Blobs
    trees: Trees | None = None

    def has(self, blob: Blob) -> bool:
        """Return whether a layer is on this host, as a blob or as a tree; its bytes are not read."""
        return self.has_blob(blob) or self.has_tree(blob)

    def has_blob(self, blob: Blob) -> bool:
        """Return whether the cache has the blob."""
        return blob.is_made and self.blobs.has(blob.digest, blob.size)

    def has_tree(self, blob: Blob) -> bool:
        """Return whether the image store has the tree."""
        return self.trees is not None and self.trees.has_tree(blob.diff_id)

    def open_tar(self, blob: Blob) -> Iterator[bytes]:
        """Yield a layer's tar in pieces of about a mebibyte.

        Raises ValueError for a damaged blob, DamagedError for a damaged tree, OSError for a layer that is not here.
        """
        if self.trees is None or self.has_blob(blob):
            return inflate(self.blobs.path(blob.digest), blob.compression)
        return self.trees.open_tar(blob.diff_id)

    def make_blob(
        self, blob: Blob, progress: Callable[[int], None], wanted: Compression | None = None
    ) -> tuple[Blob, float]:
        """Compress a layer that is here into the cache, as ``wanted`` or else its own ``compression`` says.

        Returns the blob, and the seconds of compressing. The same tar gives the same blob on every host. Raises
        MismatchError if the tree is not the layer, DamagedError and OSError as `open_tar` does.
        """
        from buildkit.layers.tar.blob_stream import BlobStream

        with self.blobs.writing() as out, BlobStream(out, wanted or blob.compression, progress) as stream:
            for chunk in self.open_tar(blob):
                stream.write(chunk)
            packed = stream.finish()
            if packed.diff_id != blob.diff_id:
                raise MismatchError(f"the image store gave a layer of {packed.diff_id} for {blob.diff_id}")
            self.blobs.keep(out, self.blobs.path(packed.digest))
        return Blob.of(packed), packed.busy
