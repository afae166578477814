"""Layers before they exist: what each is made of (its work), its recipe, and its key.

A recipe is canonical JSON holding everything that the layer's bytes depend on; its SHA-256 is the key. Recipes
come from committed text and file contents alone, so that every key can be computed in a fresh checkout.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from buildkit.declare.stage import Copy, Debian, Run, Stage
from buildkit.digest import FileHash, Key, canonical_json
from buildkit.locks.pins import AptPin, Artifact, Model, ModelFile

RECIPE_FORMAT = 2
_READABLE_FORMATS = (1, RECIPE_FORMAT)  # 1 has the same parts, with wheels in another order


class Kind(StrEnum):
    """What a layer holds."""

    ROOT = "root"
    IMAGE = "image"
    RUN = "run"
    PREFIX = "prefix"
    WHEELS = "wheels"
    MODEL = "model"
    FILES = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """A file of a checkout: path below its tree, content hash (or ``link`` for a symbolic link), size in bytes.

    The path is ``.`` where the tree is this one file: it is laid down differently from a folder that holds one.
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
        """``[path, mode, hash or target]`` of each file, as recipes hold it."""
        return [
            [f.path, "link" if f.link else "exec" if f.executable else "file", f.link or f.sha256.hex]
            for f in self.files
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeRoot:
    """A Debian root by mmdebstrap."""

    debian: Debian
    pins: tuple[AptPin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullImage:
    """A root from a registry, pinned by digest."""

    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """A command inside the root that ``chain`` makes, with the trees that it sees."""

    chain: tuple[Spec, ...]
    run: Run
    mounts: tuple[tuple[Tree, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPrefix:
    """The virtual environment that wheels go into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compile:
    """A wheel to be compiled in the builder from an sdist or from a tree of the repository."""

    artifact: Artifact
    recipe: str
    key: Key
    tree: Tree | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackWheels:
    """Wheels installed into the prefix: one heavy wheel, or a bin of lighter ones."""

    wheels: tuple[Artifact, ...]
    compiled: tuple[Compile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackModel:
    """Files of one model below ``target``."""

    model: Model
    files: tuple[ModelFile, ...]
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFiles:
    """Files of the repository."""

    tree: Tree
    copy: Copy


_RATES = {Kind.PREFIX: 0.01, Kind.WHEELS: 1.0, Kind.MODEL: 1.0, Kind.FILES: 100.0}  # changes, relative

Work = MakeRoot | PullImage | RunStep | PackPrefix | PackWheels | PackModel | PackFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A layer to be (or a root of several layers, for an image of a registry).

    ``name`` is what people see (``ml-deps/numpy``); ``weight`` are the expected bytes unpacked and ``rate`` how
    often such a layer changes, for the order; ``history`` is the image's history line.
    """

    name: str
    kind: Kind
    recipe: str
    key: Key
    work: Work
    history: str
    weight: int = 0
    rate: float = 1.0


def make_recipe(kind: str, **parts: Any) -> tuple[str, Key]:  # noqa: ANN401 - parts are JSON values
    """The recipe as canonical JSON, and its key."""
    recipe = canonical_json({"format": RECIPE_FORMAT, "kind": kind, **parts})
    return recipe, Key.of(recipe.encode())


def is_readable_format(number: object) -> bool:
    """Tell whether recipes of a format have the parts that recipes have now."""
    return type(number) is int and number in _READABLE_FORMATS


def make_spec(stage: Stage, part: str, kind: Kind, recipe: str, key: Key, *, work: Work, says: str) -> Spec:
    """A layer of ``stage`` with the rate of its kind."""
    rate = _RATES.get(kind, 0.0)
    return Spec(name=f"{stage.name}/{part}", kind=kind, recipe=recipe, key=key, work=work, history=says, rate=rate)


def distinct(name: str, taken: Collection[str]) -> str:
    """``name``, or ``name (2)`` where it is taken: people and reports tell layers by their names."""
    numbered = (f"{name} ({number})" for number in range(2, len(taken) + 3))
    return next(candidate for candidate in (name, *numbered) if candidate not in taken)
