"""Layer blobs as values, as the ledger records them and images refer to them."""

from __future__ import annotations

from buildkit.digest import DiffId, Digest
from buildkit.layers.tar.member import Compression, PackedLayer
from buildkit.layers.tar.toc import Toc
from buildkit.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One layer blob: ``size`` stored bytes under ``digest``, ``unpacked`` bytes of tar under ``diff_id``.

    A layer that was packed into the image store alone has no compressed blob yet: `is_made` is false, and digest and
    size are those of its tar until it is compressed. ``toc`` is the table of contents of a zstd:chunked blob.
    """

    digest: Digest
    diff_id: DiffId
    size: int
    unpacked: int
    compression: Compression
    toc: Toc | None = None

    @classmethod
    def of(cls, packed: PackedLayer) -> Blob:
        """Return the blob of a layer that was written."""
        return cls(
            digest=packed.digest,
            diff_id=packed.diff_id,
            size=packed.size,
            unpacked=packed.unpacked,
            compression=packed.compression,
            toc=packed.toc,
        )

    def to_row(self) -> list[str | int]:
        """Return the form in which the ledger and cache records keep it: the table of contents comes last, if any."""
        toc = (self.toc.to_text(),) if self.toc else ()
        return [self.digest.hex, self.diff_id.hex, self.size, self.unpacked, self.compression.value, *toc]

    @property
    def is_made(self) -> bool:
        """Whether ``digest`` and ``size`` are those of the blob that a registry gets."""
        return self.compression is Compression.NONE or self.digest.hex != self.diff_id.hex


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult:
    """The result of building a layer: its blobs, lowest first.

    ``config`` is the run config of a registry's image (`oci.run_config`) as JSON, without members for other layers.
    """

    blobs: tuple[Blob, ...]
    seconds: float = 0.0
    config: str = "{}"
