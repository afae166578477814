"""One layer as checks see it: its members, its secrets, and what its native files need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from buildkit.native.facts import NativeFacts

Kind = Literal["file", "folder", "symbolic link", "hard link", "character device", "block device", "pipe", "other"]

_NO_FACTS = NativeFacts()


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """One member of a layer.

    ``path`` is relative to the root, without ``.`` parts; ``name`` is the tar's spelling, if it differs. ``mode`` holds
    the twelve permission bits. ``layer`` counts layers from the lowest, 0. ``head`` are the first bytes of a file,
    ``content`` is all of a small file that checks read (accounts, ``.pth`` …), else None. ``capability`` is the
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
        """Whether it is a native program or library."""
        return self.head.startswith(b"\x7fELF")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret in a layer or in the config; ``shown`` is the part that may be printed.

    ``place`` is the file, or ``config: …``; ``layer`` counts from 0, -1 is the config; ``more`` counts others of the
    same kind in the same place.
    """

    sort: str
    place: str
    shown: str
    layer: int = -1
    offset: int = 0
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """One layer as stored: its digest, its members in their order, and the oddities of its tar.

    ``unpacked`` is the size of its tar in bytes, ``cut`` counts files that were not searched for secrets to their end,
    and ``native`` holds the facts that loading its native files depends on.
    """

    digest: str
    entries: tuple[TarEntry, ...]
    secrets: tuple[Secret, ...] = ()
    oddities: tuple[tuple[str, str], ...] = ()
    unpacked: int = 0
    cut: int = 0
    native: NativeFacts = _NO_FACTS
