"""A bill of materials as values: layers, and what each of them holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from buildkit.digest import Digest, FileHash, Key
from buildkit.oci.blob import Blob


class PartKind(StrEnum):
    """What a part is."""

    WHEEL = "wheel"
    DEBIAN = "debian"
    MODEL = "model"
    APPLICATION = "application"
    IMAGE = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What a part says of its licence.

    ``expression`` is an SPDX expression; where there is none, ``names`` are the words that were found, and without
    any of those ``missing`` says why nothing is known.
    """

    expression: str = ""
    names: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a part comes from: ``what`` (``wheel``, ``sdist``, ``source``), an address, and a hash if one is known."""

    what: str
    url: str
    sha256: FileHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """A file of a part: its path in the image, and the hash of its content (None for a symbolic link)."""

    path: str
    sha256: FileHash | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLayer:
    """A layer of the image: its name and kind, its recipe's key, and its blobs (none where it was never made here).

    ``known`` says whether every byte of it comes from a lock or the checkout, or was read back from its blobs.
    """

    name: str
    kind: str
    key: Key
    blobs: tuple[Blob, ...]
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a part is: the layer that holds it, and which of its blobs, if it was made."""

    layer: str
    blob: Blob | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One thing in the image. ``ref`` is its name within the bill, ``sha256`` of the file that was installed.

    ``places`` are the layers that hold it: one, unless two stages brought the same file. ``needs`` are refs of parts
    that it depends on; ``notes`` are further words, name and value.
    """

    kind: PartKind
    ref: str
    name: str
    version: str
    places: tuple[Place, ...]
    licence: Licence
    purl: str = ""
    sha256: FileHash | None = None
    files: tuple[PartFile, ...] = ()
    origins: tuple[Origin, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def layer(self) -> str:
        """The first layer that holds it."""
        return self.places[0].layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What an image is made of.

    ``image`` is ``PROJECT/STAGE``; ``config`` the digest of its config, which is its id in local storage, None while
    a layer is not made; ``arch`` in Debian's words. ``commit`` is what the checkout is at (empty outside a repository)
    and ``dirty`` whether its files differ. ``time`` is in seconds since the epoch, None if there is no honest one.
    ``maker`` is the version of this tool.
    """

    image: str
    version: str
    arch: str
    layers: tuple[BillLayer, ...]
    parts: tuple[Component, ...]
    maker: str
    config: Digest | None = None
    commit: str = ""
    dirty: bool = False
    time: int | None = None
