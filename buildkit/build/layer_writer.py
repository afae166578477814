"""Where a new layer goes: into the image store as a tree, into the cache as a compressed blob, or both in one pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from buildkit.build.native_facts import observe_members
from buildkit.digest import Key
from buildkit.imagestore.image_store import ImageStore
from buildkit.layers.tar.blob_stream import BlobOutput, Take
from buildkit.layers.tar.member import Compression, Member, PackedLayer
from buildkit.layers.tar.writer import write_layer
from buildkit.lazy_dataclass import dataclass
from buildkit.plan.spec import Spec
from buildkit.store.blobs import Blobs
from buildkit.store.file_clone import SMALLEST
from buildkit.store.ingest import OpenTree
from buildkit.store.layer_bytes import TreeOutput

if TYPE_CHECKING:
    from buildkit.remote.layer_stream import LayerStream, LayerStreams


_THREADS = min(2, len(os.sched_getaffinity(0)))  # each has about 20 MB


def agree() -> None:
    """Let the layer be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWriter:
    """Opens the outputs of the layers of one build.

    Layers become trees if there is an image ``store``, and blobs if ``compress`` is true or there is no tree. A blob
    that is not made now is made when a registry needs it (`build.make_blobs`).
    """

    blobs: Blobs
    store: ImageStore | None = None
    compress: bool = True
    streams: LayerStreams | None = None

    @contextmanager
    def open(
        self, compression: Compression, *, key: Key | None = None, foreign_owners: bool = False
    ) -> Iterator[LayerOutput]:
        """Open the output of one layer, which is kept only if `LayerOutput.keep` is called.

        ``compression`` is that of its blob; ``foreign_owners`` is whether files may belong to others than uid 0. With
        its ``key``, the blob may go up while it is written.
        """
        with ExitStack() as stack:
            writing = self.store.writing_tree(foreign_owners=foreign_owners) if self.store else None
            tree = stack.enter_context(writing) if writing else None
            blob = stack.enter_context(self.blobs.writing()) if self.compress or tree is None else None
            stream = stack.enter_context(self.streams.open(key, blob)) if self.streams and key and blob else None
            yield LayerOutput(blobs=self.blobs, file=blob, stream=stream, tree=tree, wanted=compression)

    def open_tree_of(self, spec: Spec) -> OpenTree:
        """Return what opens the tree of a layer that is fetched as a blob."""
        return partial(self.store.writing_tree, foreign_owners=spec.is_of_root) if self.store else nullcontext


def write_observed(
    members: Iterable[Member], to: LayerOutput, progress: Callable[[int], None], settle: Callable[[], None] = agree
) -> tuple[PackedLayer, bytes]:
    """Write a layer, which is kept if ``settle`` raises nothing; return it with its encoded native facts.

    ``progress`` is called with the bytes of tar so far. Raises what `layers.tar.writer.write_layer` does.
    """
    from buildkit.native.collector import NativeCollector  # a build that packs nothing loads none
    from buildkit.native.facts import encode_facts

    collector = NativeCollector()
    observed = observe_members(_with_clones(members, to.tree) if to.tree else members, collector)
    written = write_layer(observed, to.blob, to.compression, progress=progress, tee=to.tee, threads=to.threads)
    settle()
    return to.keep(written), encode_facts(collector.facts())


def _with_clones(members: Iterable[Member], tree: TreeOutput) -> Iterator[Member]:
    """Yield the same members; the tree gets a clone of a large file, which is read while the caller has the member."""
    for member in members:
        original = member.original if member.size >= SMALLEST else None
        clone = tree.find_clone(original) if original else None
        if clone is None:
            yield member
            continue
        with clone:
            yield replace(member, content=clone.read, clone=clone.path)
            clone.verify()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOutput:
    """What the tar of one layer is written to.

    ``blob``, ``compression``, ``tee`` and ``threads`` are arguments of `BlobStream`.
    """

    blobs: Blobs
    file: BinaryIO | None
    stream: LayerStream | None
    tree: TreeOutput | None
    wanted: Compression

    @property
    def blob(self) -> BlobOutput | None:
        """What takes the blob, if one is made."""
        return self.stream or self.file

    @property
    def compression(self) -> Compression:
        """How these bytes are compressed."""
        return self.wanted if self.file else Compression.NONE

    @property
    def threads(self) -> int:
        """How many threads compress: two if the layer may go up meanwhile, as few such layers are built at once."""
        return _THREADS if self.stream else 1

    @property
    def tee(self) -> Take | None:
        """What makes the tree, if one is made."""
        return self.tree.take if self.tree else None

    def keep(self, packed: PackedLayer) -> PackedLayer:
        """Give what was written its names; return the layer as the ledger records it."""
        if self.stream:  # first: the registry takes the blob while it is flushed here
            self.stream.accept(packed.digest)
        if self.tree:
            self.tree.keep(packed.diff_id, packed.unpacked)
        if self.file:
            self.blobs.keep(self.file, self.blobs.path(packed.digest))
        return packed if self.file else replace(packed, compression=self.wanted)
