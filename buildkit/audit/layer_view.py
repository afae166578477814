"""One layer as checks see it: its members, the secrets in it, and what native files need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from buildkit.native.facts import NativeFacts

Kind = Literal["file", "folder", "symbolic link", "hard link", "character device", "block device", "pipe", "other"]

_NO_FACTS = NativeFacts()


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """One member of a layer.

    ``path`` is relative to the root, without ``.`` parts; ``name`` is how the tar writes it, where that differs.
    ``mode`` holds the twelve permission bits. ``layer`` counts layers from the lowest, 0. ``head`` are the first bytes
    of a file, ``content`` all of a small file that checks read (accounts, ``.pth`` …), else None. ``capability`` is the
    extended attribute ``security.capability``.
    """

    path: str
    kind: Kind = "file"
    name: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    link: str = ""
    device: str = ""
    capability: bytes = b""
    layer: int = 0
    head: bytes = b""
    content: bytes | None = None

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.kind == "symbolic link"

    @property
    def is_elf(self) -> bool:
        """Whether it is a program or a library of machine code."""
        return self.head.startswith(b"\x7fELF")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Something secret that a layer or the config holds; ``shown`` is what may be printed of it.

    ``place`` is the file, or ``config: …``; ``layer`` counts from 0, -1 for the config; ``more`` are others of the same
    sort in the same place.
    """

    sort: str
    place: str
    shown: str
    layer: int = -1
    offset: int = 0
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """One layer as it is stored: its digest, its members in their order, and what its tar does that none should.

    ``unpacked`` are the bytes of its tar, ``cut`` counts files that were not searched for secrets to their end, and
    ``native`` is what loading its programs and libraries depends on.
    """

    digest: str
    entries: tuple[TarEntry, ...]
    secrets: tuple[Secret, ...] = ()
    oddities: tuple[tuple[str, str], ...] = ()
    unpacked: int = 0
    cut: int = 0
    native: NativeFacts = _NO_FACTS
