"""Wheels become a layer, in a process of their own where several layers are packed at once (`tools.forked_workers`).

What installs, hashes and writes thousands of small files is mostly the interpreter, whose lock threads share.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

# not when the first wheel is packed: each process would load these, and might find one that a thread was loading
import buildkit.imagestore.tree_maker
import buildkit.layers.wheel.install
import buildkit.native.collector
import buildkit.native.facts  # noqa: F401
from buildkit.build.layer_writer import LayerWriter, write_observed
from buildkit.imagestore.image_store import ImageStore
from buildkit.layers.tar.blob_stream import LARGE, turn_of_large
from buildkit.layers.tar.member import Compression
from buildkit.layers.wheel.layer import layer_of_wheels
from buildkit.lazy_dataclass import dataclass
from buildkit.store.blobs import Blobs

if TYPE_CHECKING:
    from buildkit.declare.target import Target
    from buildkit.layers.tar.member import PackedLayer
    from buildkit.tools.forked_workers import ForkedWorkers, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPacking:
    """The layer of ``wheels`` for a ``target``, and where it goes: a cache, and an image store if there is one.

    ``compress`` and ``compression`` are those of `LayerWriter`.
    """

    wheels: tuple[Path, ...]
    target: Target
    compression: Compression
    cache: Path
    store: Path | None
    compress: bool


def pack_wheels(progress: Progress, packing: WheelPacking) -> tuple[PackedLayer, bytes]:
    """Pack a layer, and return it with its encoded native facts. Raises WheelError, CollisionError, BuildError."""
    store = ImageStore(packing.store) if packing.store else None
    writer = LayerWriter(blobs=Blobs(packing.cache), store=store, compress=packing.compress)
    with writer.open(packing.compression) as to:
        return write_observed(layer_of_wheels(packing.wheels, packing.target), to, progress)


def pack_apart(
    workers: ForkedWorkers, packing: WheelPacking, weight: int, progress: Progress
) -> tuple[PackedLayer, bytes]:
    """Return what `pack_wheels` returns, run in a process; of large layers that are compressed, few run at once.

    ``weight`` is the expected unpacked size in bytes.
    """
    needs_turn = packing.compress and packing.compression is Compression.ZSTD and weight > LARGE
    with turn_of_large(lambda: progress(0)) if needs_turn else nullcontext():
        return workers.run(pack_wheels, progress, packing)
