"""The software bill of materials (SBOM) of an image as values: its layers, and the components in each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from buildkit.digest import Digest, FileHash, Key
from buildkit.oci.blob import Blob


class ComponentKind(StrEnum):
    """The kind of a component."""

    WHEEL = "wheel"
    DEBIAN = "debian"
    MODEL = "model"
    APPLICATION = "application"
    IMAGE = "image"
    PYTHON = "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """The declared licence of a component.

    ``expression`` is an SPDX expression. Without one, ``names`` are the licence names that were found; without any of
    those, ``missing`` is the reason why the licence is unknown.
    """

    expression: str = ""
    names: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentOrigin:
    """The origin of a component: ``what`` (``wheel``, ``sdist``, ``source``), a URL, and a hash if one is known."""

    what: str
    url: str
    sha256: FileHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentAncestor:
    """A model that a component was derived from: name, version, purl, and the hash of its only file, if it has one."""

    name: str
    version: str
    purl: str
    sha256: FileHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentFile:
    """A file of a component: its path in the image, and the hash of its content (None for a symbolic link)."""

    path: str
    sha256: FileHash | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SbomLayer:
    """A layer of the image: its name and kind, its recipe's key, and its blobs (none if it was never built here).

    ``known`` is true if every byte comes from a lock or the checkout, or was read back from the blobs.
    """

    name: str
    kind: str
    key: Key
    blobs: tuple[Blob, ...]
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentLocation:
    """The layer that contains a component, and the blob of that layer if it was built."""

    layer: str
    blob: Blob | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A component of the image. ``ref`` is its unique name in the SBOM, ``sha256`` the hash of the installed file.

    ``places`` are the layers that contain it: one, unless two stages bring the same file. ``needs`` are the refs of the
    components that it depends on; ``notes`` are further properties, name and value. ``ancestors`` are what it was
    derived from, the nearest first.
    """

    kind: ComponentKind
    ref: str
    name: str
    version: str
    places: tuple[ComponentLocation, ...]
    licence: Licence
    purl: str = ""
    sha256: FileHash | None = None
    files: tuple[ComponentFile, ...] = ()
    origins: tuple[ComponentOrigin, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()
    ancestors: tuple[ComponentAncestor, ...] = ()

    @property
    def layer(self) -> str:
        """The first layer that contains it."""
        return self.places[0].layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sbom:
    """The SBOM of an image.

    ``image`` is ``PROJECT/STAGE``. ``config`` is the digest of its config, which is its id in local storage, or None
    while a layer is not built. ``arch`` is in Debian's terms. ``commit`` is empty outside a repository,
    and ``dirty`` is true if files differ from it. ``time`` is in seconds since the epoch, None if no true time is
    known. ``maker`` is the version of this tool.
    """

    image: str
    version: str
    arch: str
    layers: tuple[SbomLayer, ...]
    components: tuple[Component, ...]
    maker: str
    config: Digest | None = None
    commit: str = ""
    dirty: bool = False
    time: int | None = None
