"""The contents of locks as values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit.digest import Digest, FileHash
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.git_source import GitSource, is_git, parse_git_source
from buildkit.locks.model_source import DerivedSource, ModelSource, UrlSource

if TYPE_CHECKING:
    from buildkit.locks.derivation import Derivation  # builds without models need none of it

PLAIN, HF_CACHE = "plain", "hf-cache"  # layouts of models


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """A distribution file as a lock of another tool lists it.

    ``place`` is its URL, or its path in the repository. ``size`` is in bytes, None if the lock does not say it.
    """

    name: str
    sha256: FileHash
    place: str
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One pin of a requirements lock: ``name`` is normalised (PEP 503); ``line`` is 0 if only the ``file`` is known.

    ``path`` is set for a package of the repository itself (``./libs/textkit``); it has no hashes, and its version
    comes from its own metadata. ``marker`` is PEP 508 text, empty if there is none. ``form`` is the only kind of file
    that the lock's ``--no-binary`` (``sdist``) or ``--only-binary`` (``wheel``) allows; empty allows both. ``files``
    are the version's files, if the lock says where they are; ``index`` is the only index that has them, if it says so.
    ``git`` is set for a package of a git repository, which has no hashes; its version is empty if only its own
    metadata says it.
    """

    name: str
    version: str
    hashes: tuple[FileHash, ...]
    file: str
    line: int
    marker: str = ""
    path: str = ""
    form: str = ""
    files: tuple[PinnedFile, ...] = ()
    index: str = ""
    git: GitSource | None = None

    @property
    def at(self) -> str:
        """Where it is written, for messages: ``requirements/api.txt:3``."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The distribution file of a pin for the target: a wheel, or an sdist to be compiled.

    ``size`` is the file's, in bytes. A package of the repository has ``path`` instead of file, hash and size.
    ``place`` is a URL or a path in the repository where a lock of another tool says that the file is. For a package of
    a git repository it is the commit (`GitSource`), and the file is a tar of its tree. ``unseen`` says that nobody
    looked into a wheel when it was locked, so its paths may meet those of others.
    """

    name: str
    version: str
    file: str = ""
    sha256: FileHash | None = None
    size: int = 0
    path: str = ""
    place: str = ""
    unseen: bool = False

    @property
    def is_wheel(self) -> bool:
        """Whether it can be installed without compiling."""
        return self.file.endswith(".whl")

    @property
    def git(self) -> GitSource | None:
        """The commit that the file is a tar of, if it is from a git repository."""
        return parse_git_source(self.place) if is_git(self.place) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AptPin:
    """One Debian package at its exact version (``libc6`` ``2.41-12``)."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedImage:
    """An image of a registry: ``ref`` is its name with the digest, ``pinned`` what names its content alone.

    ``manifests`` are the digests of the images for the target, of which one must arrive; empty if they are not known.
    ``system`` is its distribution and release (``ubuntu``, ``noble``), if that is known.
    """

    ref: str
    pinned: str
    manifests: tuple[Digest, ...] = ()
    system: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model: ``path`` below the model's folder in the image, content hash, size in bytes.

    ``source`` locates the bytes in the model's source: a member of the wheel (PypiSource), a URL (UrlSource), or a path
    in the repository (RepoSource). Of a DerivedSource it is empty: the file is made of other files.
    """

    path: str
    sha256: FileHash
    size: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A locked model; ``wheel`` is the file that contains a model of a PypiSource.

    ``target`` is its place in images, if it has one of its own: of the plain layout the model's folder, of the layout
    ``hf-cache`` the cache. That layout is for a HubSource; ``revision`` is the branch or tag that it was asked by.
    A model of a DerivedSource has its ``derivation`` and, once a checkout has read it, ``origin``.
    """

    name: str
    version: str
    source: ModelSource
    license: str
    files: tuple[ModelFile, ...]
    wheel: Artifact | None = None
    target: str = ""
    layout: str = PLAIN
    revision: str = ""
    derivation: Derivation | None = None
    origin: DerivedFrom | None = None

    @property
    def has_own_files(self) -> bool:
        """Whether each of its files is in the cache under its own hash: downloads, and what was derived."""
        return isinstance(self.source, UrlSource | DerivedSource)


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedFrom:
    """What a derived model is made from now: its ``source``, and the ``recipe`` (canonical JSON) with its key.

    ``files`` are the repository's own that the tool reads: scripts and data.
    """

    source: Model
    recipe: str
    key: FileHash
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonArchive:
    """An archive of a relocatable Python: release (``3.12.16``), ``build`` (``20261110``), processor, and its bytes.

    ``url`` is that of the list; a mirror has the same file below its own address. ``size`` is in bytes.
    """

    version: str
    build: str
    arch: str
    url: str
    sha256: FileHash
    size: int

    @property
    def file(self) -> str:
        """The archive's name, without the characters that a URL escapes."""
        return self.url.rpartition("/")[2].replace("%2B", "+")

    @property
    def release(self) -> str:
        """The release with its build, as python-build-standalone writes it: ``3.12.16+20261110``."""
        return f"{self.version}+{self.build}"
