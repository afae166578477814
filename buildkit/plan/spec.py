"""Layers before they are built: their work, recipe and key.

A recipe is canonical JSON holding everything that the layer's bytes depend on; its SHA-256 is the key. Recipes
come from committed text and file contents alone, so that every key can be computed in a fresh checkout.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from buildkit.declare.containerfile_root import ContainerfileRoot
from buildkit.declare.stage import Copy, Debian, Run, Stage
from buildkit.digest import FileHash, Key, canonical_json
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.pins import AptPin, Artifact, Model, ModelFile, PinnedImage, PythonArchive

if TYPE_CHECKING:
    from buildkit.triton.repository import Repository  # builds of images that serve no models need none of it

RECIPE_FORMAT = 2
STANDALONE_BUILD = "python-build-standalone"
"""What names the images' own Python where a recipe names the interpreter that compiles bytecode."""
_READABLE_FORMATS = (1, RECIPE_FORMAT)  # 1 has the same parts, with wheels in another order
_WHEEL_FORMATS = {"pip": "2"}  # a wheel whose own bytes changed since; 2: a script is named after Python's version


class Kind(StrEnum):
    """The kind of a layer."""

    ROOT = "root"
    IMAGE = "image"
    CONTAINERFILE = "containerfile"
    RUN = "run"
    PYTHON = "python"
    PREFIX = "prefix"
    WHEELS = "wheels"
    MODEL = "model"
    FILES = "files"
    LINKS = "links"
    FRAMEWORK = "framework"
    SERVING = "serving"
    SBOM = "sbom"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """A file of a checkout: path below its tree, content hash (or ``link`` for a symbolic link), size in bytes.

    The path is ``.`` if the tree is this one file, which is placed differently from a folder with one file.
    """

    path: str
    sha256: FileHash
    size: int
    executable: bool = False
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files below ``path`` (relative to the project) that belong to the checkout, sorted by path."""

    path: str
    files: tuple[TreeFile, ...]

    def listing(self) -> list[list[str]]:
        """Return ``[path, mode, hash or target]`` of each file, as in recipes."""
        return [
            [f.path, "link" if f.link else "exec" if f.executable else "file", f.link or f.sha256.hex]
            for f in self.files
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeRoot:
    """Make a Debian root with mmdebstrap; ``sources`` are its archives (`declare.apt_sources`), empty if usual.

    ``arch`` is Debian's name of its processor.
    """

    debian: Debian
    pins: tuple[AptPin, ...]
    arch: str
    sources: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullImage:
    """Pull a root from a registry, for ``arch`` in Debian's terms."""

    image: PinnedImage
    arch: str

    @property
    def ref(self) -> str:
        """The name of the image, with its digest."""
        return self.image.ref


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """Run a command in the root made of ``chain``, with the trees mounted into it."""

    chain: tuple[Spec, ...]
    run: Run
    mounts: tuple[tuple[Tree, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContainerfile:
    """Build a root from ``text``, with the files of ``context``, on the images that it names.

    ``images`` are those, by the names as they are written. ``below`` is the layer of the image that the result stands
    on; None for a result that starts from nothing. ``arch`` is Debian's name of its processor.
    """

    root: ContainerfileRoot
    text: str
    arch: str
    context: Tree
    images: tuple[tuple[str, Spec], ...]
    below: Spec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPython:
    """Pack the images' own Python below ``folder``: its files, or with ``bytecode`` that of its modules alone."""

    archive: PythonArchive
    folder: str
    bytecode: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPrefix:
    """Pack the virtual environment that wheels are installed into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compile:
    """Compile a wheel in the builder, from an sdist or from a tree of the repository."""

    artifact: Artifact
    recipe: str
    key: Key
    tree: Tree | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackWheels:
    """Pack wheels installed into the prefix: one heavy wheel, or a bin of lighter ones."""

    wheels: tuple[Artifact, ...]
    compiled: tuple[Compile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSnapshot:
    """A commit in a cache of a model hub: the names that lead to it, and its files, each with the name of its blob."""

    commit: str
    refs: tuple[str, ...]
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackModel:
    """Pack files of one model below ``target``.

    ``names`` are the places of files that do not lie at their paths. With ``blobs`` that is a repository in a cache of
    a model hub, where files are blobs named by their hash; the layer with the ``snapshot`` gives them their names.
    """

    model: Model
    files: tuple[ModelFile, ...]
    target: str
    blobs: bool = False
    snapshot: HubSnapshot | None = None
    names: tuple[tuple[str, str], ...] = ()

    def place(self, file: ModelFile) -> str:
        """Return the path of a file below ``target``."""
        return f"blobs/{file.sha256.hex}" if self.blobs else dict(self.names).get(file.path, file.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFiles:
    """Pack files of the repository."""

    tree: Tree
    copy: Copy


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLinks:
    """Pack symbolic links to folders of models that are mounted: pairs of path and target, both absolute."""

    links: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFramework:
    """Pack the module ``xoe_runtime`` into the folder ``target``, with ``settings`` (JSON) beside it."""

    target: str
    settings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackServing:
    """Pack the configurations, scripts and labels of a model repository, which are made from its models' graphs."""

    repository: Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSbom:
    """Pack the SBOM of the layers of ``root`` and ``layers`` at ``path``, for scanners of the image.

    ``image`` and ``version`` are those of the document. It says what the locks say: a layer's bytes may depend on its
    recipe alone.
    """

    root: tuple[Spec, ...]
    layers: tuple[Spec, ...]
    path: str
    image: str
    version: str


OF_ROOT = (Kind.ROOT, Kind.IMAGE, Kind.CONTAINERFILE, Kind.RUN)
"""The kinds of layers of a root; their sizes are unknown before they are made."""
_RATES = {
    Kind.PYTHON: 0.01,
    Kind.PREFIX: 0.01,
    Kind.WHEELS: 1.0,
    Kind.MODEL: 1.0,
    Kind.LINKS: 0.01,
    Kind.FRAMEWORK: 1.0,
    Kind.SERVING: 10.0,
    Kind.FILES: 100.0,
    Kind.SBOM: 200.0,
}  # relative change rates

Work = (
    MakeRoot
    | PullImage
    | BuildContainerfile
    | RunStep
    | PackPython
    | PackPrefix
    | PackWheels
    | PackModel
    | PackFiles
    | PackLinks
    | PackFramework
    | PackServing
    | PackSbom
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The definition of a layer (or of a root of several layers, for an image of a registry).

    ``name`` is for people (``ml-deps/numpy``). The order of layers depends on ``weight``, the expected bytes unpacked,
    and ``rate``, how often such a layer changes. ``history`` is its line in the image's history.
    """

    name: str
    kind: Kind
    recipe: str
    key: Key
    work: Work
    history: str
    weight: int = 0
    rate: float = 1.0

    @property
    def is_of_root(self) -> bool:
        """Whether the layer belongs to a root, whose paths other layers may not replace."""
        return self.kind in OF_ROOT

    @property
    def compiled(self) -> tuple[Compile, ...]:
        """The wheels of the layer that are compiled here."""
        return self.work.compiled if isinstance(self.work, PackWheels) else ()


def arch_of(chain: Sequence[Spec]) -> str:
    """Return the processor of a root, in Debian's terms; empty if it is not known."""
    first = chain[0].work if chain else None
    return first.arch if isinstance(first, MakeRoot | PullImage | BuildContainerfile) else ""


def make_recipe(kind: str, **parts: Any) -> tuple[str, Key]:  # noqa: ANN401 - parts are JSON values
    """Return the recipe as canonical JSON, and its key."""
    recipe = canonical_json({"format": RECIPE_FORMAT, "kind": kind, **parts})
    return recipe, Key.of(recipe.encode())


def make_source_recipe(artifact: Artifact, tree: Tree | None) -> dict[str, Any]:
    """Return what a wheel is compiled from, as in a recipe: an sdist, or the tree of a package of the repository."""
    if tree:
        return {"tree": tree.listing()}
    git = artifact.git  # a build backend that asks git for the version is told it
    told = {"subdirectory": git.subdirectory, "version": artifact.version} if git else {}
    return {"sdist": artifact.sha256.hex if artifact.sha256 else "", **told}


def make_wheel_recipe(artifact: Artifact, compiled: Compile | None) -> dict[str, str]:
    """Return a wheel of a layer, as in its recipe."""
    pin = {"name": artifact.name, "version": artifact.version}
    if artifact.name in _WHEEL_FORMATS:
        pin["format"] = _WHEEL_FORMATS[artifact.name]
    if compiled:
        return pin | {"compiled": compiled.key.hex}
    return pin | {"sha256": artifact.sha256.hex if artifact.sha256 else ""}


def is_readable_format(number: object) -> bool:
    """Return whether recipes of a format have the parts that recipes have now."""
    return type(number) is int and number in _READABLE_FORMATS


def make_spec(stage: Stage, part: str, kind: Kind, recipe: str, key: Key, *, work: Work, history: str) -> Spec:
    """Return a layer of ``stage`` with the change rate of its kind."""
    rate = _RATES.get(kind, 0.0)
    return Spec(name=f"{stage.name}/{part}", kind=kind, recipe=recipe, key=key, work=work, history=history, rate=rate)


def distinct(name: str, taken: Collection[str]) -> str:
    """Return ``name``, or ``name (2)`` if it is taken: people and reports tell layers apart by name."""
    numbered = (f"{name} ({number})" for number in range(2, len(taken) + 3))
    return next(candidate for candidate in (name, *numbered) if candidate not in taken)
