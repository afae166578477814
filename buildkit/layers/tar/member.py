"""What a layer is made of, before it is a tar, and what is known of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from buildkit.digest import DiffId, Digest, FileHash

Chunks = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of a layer tar.

    ``path`` is relative to the image's root, POSIX, without a leading slash (``opt/venv/bin/uvicorn``). A file has
    ``size`` bytes, which ``content`` yields in chunks when called (once). ``sha256``, where given, is verified
    while the bytes pass. ``source``, for messages, is the file of the repository that it is a copy of. Owner, times
    and every mode bit but the executable one are not the member's to say.
    """

    path: str
    kind: Literal["file", "directory", "symlink"] = "file"
    size: int = 0
    content: Chunks | None = None
    executable: bool = False
    target: str = ""
    sha256: FileHash | None = None
    source: str = ""


class Compression(StrEnum):
    """How a blob is stored."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A layer as it was written: ``size`` bytes stored under ``digest``, ``unpacked`` bytes of tar under ``diff_id``.

    ``contents`` lists what the layer owns, for collision checks and bills of materials: path and the SHA-256 of a
    file's content (``-> TARGET`` for a symbolic link); directories are not owned. ``busy`` are the seconds that
    compressing, hashing and writing took, beside reading.
    """

    digest: Digest
    diff_id: DiffId
    size: int
    unpacked: int
    compression: Compression
    contents: tuple[tuple[str, str], ...]
    busy: float = field(default=0.0, compare=False)
