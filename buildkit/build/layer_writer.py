"""Where a new layer goes: into the image store as a tree, into the cache as a compressed blob, or both in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import BinaryIO

from buildkit.build.context import BuildContext
from buildkit.layers.tar.blob_stream import Take
from buildkit.layers.tar.member import Compression, PackedLayer
from buildkit.lazy_dataclass import dataclass
from buildkit.plan.spec import Spec
from buildkit.store.blobs import Blobs
from buildkit.store.ingest import OpenTree
from buildkit.store.layer_bytes import TreeOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWriter:
    """Opens the outputs of the layers of one build.

    Layers become trees if there is an image store and ``trees`` is true, and blobs if ``compress`` is true or there is
    no tree. A blob that is not made now is made when a registry needs it (`build.make_blobs`).
    """

    context: BuildContext
    compress: bool = True
    trees: bool = True

    @contextmanager
    def open(self, compression: Compression, *, foreign_owners: bool = False) -> Iterator[LayerOutput]:
        """Open the output of one layer, which is kept only if `LayerOutput.keep` is called.

        ``compression`` is that of its blob; ``foreign_owners`` is whether files may belong to others than uid 0.
        """
        store, blobs = self.context.image_store if self.trees else None, self.context.blobs
        with ExitStack() as stack:
            tree = stack.enter_context(store.writing_tree(foreign_owners=foreign_owners)) if store else None
            blob = stack.enter_context(blobs.writing()) if self.compress or tree is None else None
            yield LayerOutput(blobs=blobs, blob=blob, tree=tree, wanted=compression)

    def open_tree_of(self, spec: Spec) -> OpenTree:
        """Return what opens the tree of a layer that is fetched as a blob."""
        store = self.context.image_store if self.trees else None
        return partial(store.writing_tree, foreign_owners=spec.is_of_root) if store else nullcontext


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOutput:
    """What the tar of one layer is written to. ``blob``, ``compression`` and ``tee`` are arguments of `BlobStream`."""

    blobs: Blobs
    blob: BinaryIO | None
    tree: TreeOutput | None
    wanted: Compression

    @property
    def compression(self) -> Compression:
        """How these bytes are compressed."""
        return self.wanted if self.blob else Compression.NONE

    @property
    def tee(self) -> Take | None:
        """What makes the tree, if one is made."""
        return self.tree.take if self.tree else None

    def keep(self, packed: PackedLayer) -> PackedLayer:
        """Give what was written its names; return the layer as the ledger records it."""
        if self.tree:
            self.tree.keep(packed.diff_id, packed.unpacked)
        if self.blob:
            self.blobs.keep(self.blob, self.blobs.path(packed.digest))
        return packed if self.blob else replace(packed, compression=self.wanted)
