"""The table of contents of a zstd:chunked blob: where it lies, and what manifests say of it.

The format is that of containers/storage (pkg/chunked/internal/minimal/compression.go). Behind the tar's frames lie
three skippable frames: the table, tar-split data, and a footer with the positions of both. A reader trusts none of
them but by the annotations of the layer's descriptor in the manifest.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import NamedTuple

from buildkit.digest import Digest
from buildkit.lazy_dataclass import dataclass

_PREFIX = "io.github.containers.zstd-chunked."
_FRAME = struct.Struct("<II")  # of a skippable frame: magic number, size (RFC 8878, 3.1.2)
_SKIPPABLE = 0x184D2A50
_FOOTER = struct.Struct("<7Q8s")
_MAGIC = b"GNUlInUx"
_TYPE = 1  # of the table
_TEXT_PARTS = 7
_MOST = 150 << 20  # bytes of a table; containers/storage reads no larger ones


class TocPart(NamedTuple):
    """A part of a blob: its offset, its size, and its size when it is decompressed, in bytes."""

    offset: int
    size: int
    unpacked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Toc:
    """The ``digest`` of the table as it is stored, and where the ``table`` and the ``tar_split`` data lie."""

    digest: Digest
    table: TocPart
    tar_split: TocPart

    def annotations(self) -> dict[str, str]:
        """Return the annotations of the layer's descriptor."""
        return {
            f"{_PREFIX}manifest-checksum": str(self.digest),
            f"{_PREFIX}manifest-position": "{}:{}:{}:{}".format(*self.table, _TYPE),
            f"{_PREFIX}tarsplit-position": "{}:{}:{}".format(*self.tar_split),
        }

    def to_text(self) -> str:
        """Return the form in which the ledger and cache records keep it."""
        return ":".join(map(str, (self.digest.hex, *self.table, *self.tar_split)))

    @classmethod
    def parse(cls, text: str) -> Toc:
        """Read `to_text`; raises ValueError."""
        parts = text.split(":")
        numbers = [int(part) for part in parts[1:] if part.isascii() and part.isdigit() and len(part) < 20]
        if len(parts) != _TEXT_PARTS or len(numbers) != _TEXT_PARTS - 1:
            raise ValueError("not the place of a table of contents")
        return cls(digest=Digest(parts[0]), table=TocPart(*numbers[:3]), tar_split=TocPart(*numbers[3:]))


def render_toc(offset: int, table: tuple[bytes, int], tar_split: tuple[bytes, int]) -> tuple[bytes, Toc]:
    """Return the end of a blob that has ``offset`` bytes, and its `Toc`.

    ``table`` and ``tar_split`` are compressed bytes, and how many these were.
    """
    at = offset + _FRAME.size
    toc = Toc(
        digest=Digest(hashlib.sha256(table[0]).hexdigest()),
        table=TocPart(at, len(table[0]), table[1]),
        tar_split=TocPart(at + len(table[0]) + _FRAME.size, len(tar_split[0]), tar_split[1]),
    )
    footer = _FOOTER.pack(*toc.table, _TYPE, *toc.tar_split, _MAGIC)
    return b"".join(_FRAME.pack(_SKIPPABLE, len(part)) + part for part in (table[0], tar_split[0], footer)), toc


def find_toc(path: Path) -> Toc | None:
    """Return the table of contents of a blob by its footer; None if it has none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _FOOTER.size))
        footer = file.read()
        if len(footer) < _FOOTER.size or not footer.endswith(_MAGIC):
            return None
        *numbers, _magic = _FOOTER.unpack(footer)
        table, tar_split = TocPart(*numbers[:3]), TocPart(*numbers[4:])
        if numbers[3] != _TYPE or table.size > _MOST or table.offset + table.size > size:
            return None
        file.seek(table.offset)
        digest = Digest(hashlib.sha256(file.read(table.size)).hexdigest())
    return Toc(digest=digest, table=table, tar_split=tar_split)
