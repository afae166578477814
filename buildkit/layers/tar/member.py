"""The members of a layer before they are written, and the facts of a layer that was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from buildkit.digest import DiffId, Digest, FileHash
from buildkit.layers.tar.toc import Toc
from buildkit.lazy_dataclass import dataclass

Chunks = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of a layer's tar, before it is written.

    ``path`` is relative to the image's root, POSIX, without a leading slash (``opt/venv/bin/uvicorn``). A file has
    ``size`` bytes, which ``content`` yields in chunks when called. ``sha256``, if given, is verified while the
    bytes pass. For messages, ``source`` is the file of the repository that it is a copy of, and ``wheel`` the file name
    of the wheel that it comes from. ``original`` is a file on disk that has the content, and ``clone`` a new file that
    has it, which a tree may take. The writer fixes the owner, the times and every mode bit but the executable one.
    """

    path: str
    kind: Literal["file", "directory", "symlink"] = "file"
    size: int = 0
    content: Chunks | None = None
    executable: bool = False
    target: str = ""
    sha256: FileHash | None = None
    source: str = ""
    wheel: str = ""
    original: Path | None = None
    clone: Path | None = None


class Compression(StrEnum):
    """The compression of a stored blob."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    CHUNKED = "zstd:chunked"
    """zstd with a table of contents (`layers.tar.chunked`)."""

    @classmethod
    def detect(cls, start: bytes) -> Compression:
        """Return the compression of a blob by its first bytes, of which `MAGIC_SIZE` suffice; a table is not seen."""
        return next((compression for magic, compression in _MAGIC.items() if start.startswith(magic)), cls.NONE)


_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5\x2f\xfd": Compression.ZSTD}  # RFC 1952, RFC 8878
MAGIC_SIZE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLayer:
    """A written layer: ``size`` bytes stored under ``digest``, ``unpacked`` bytes of tar under ``diff_id``.

    ``contents`` is the layer's listing (`layers.tar.listing`), ``toc`` the table of contents of its blob. ``busy`` are
    the seconds spent on compressing, hashing and writing, while another thread read.
    """

    digest: Digest
    diff_id: DiffId
    size: int
    unpacked: int
    compression: Compression
    contents: tuple[tuple[str, str], ...]
    toc: Toc | None = None
    busy: float = field(default=0.0, compare=False)
