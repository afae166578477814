"""The comparison of a layer with its earlier recipe, and the interfaces to earlier builds and the checkout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from buildkit.digest import Key
from buildkit.lazy_dataclass import dataclass
from buildkit.plan.spec import RunStep, Spec

if TYPE_CHECKING:
    from buildkit.plan.explain.causes import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRecipe:
    """A recipe that something was built from, and the name of the layer (empty for a compiled wheel)."""

    name: str
    recipe: str


class History(Protocol):
    """The interface to the record of earlier builds."""

    @property
    def last(self) -> Mapping[str, str]:
        """Recipes of the last build of the image, by layer name; empty before the first build."""

    def find(self, key: str) -> PastRecipe | None:
        """Find the layer or compiled wheel with a key (64 hexadecimal digits), whether it still exists or not."""

    def fate(self, key: Key) -> Cause | None:
        """Return what happened to a layer that was built before: evicted, damaged, blob gone; None if it was not."""


class SourceLocations(Protocol):
    """Locates the parts of a recipe in the checkout: as ``file`` or ``file:line``, relative to it."""

    def stage(self, name: str) -> str:
        """Return the file of a stage."""

    def pin(self, stage: str, name: str, path: str = "") -> str:
        """Return the line of a stage's locks that pins a wheel, or a package of the repository at ``path``."""

    def wheel_layer(self, stage: str, name: str) -> str:
        """Return the name of the stage's layer that holds a wheel; empty for none."""

    def package(self, packages: str, name: str) -> str:
        """Return the line that pins a Debian package in the lock of an apt list."""

    def model_file(self, stage: str, model: str, path: str) -> str:
        """Return the line of a stage's models lock that pins a file, or the file itself if the repository holds it."""

    def compiler(self) -> tuple[Spec, ...]:
        """Return the root whose interpreter compiles bytecode."""

    def builder(self) -> tuple[Spec, ...]:
        """Return the stage in which sdists are compiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerComparison:
    """One layer, its recipes ``old`` and ``new``, and how other layers are compared.

    ``compare_other`` returns the causes for another layer, given its recipe in an earlier build (None if it had none).
    """

    spec: Spec
    history: History
    locations: SourceLocations
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    compare_other: Callable[[Spec, str | None], Iterator[Cause]]

    @property
    def stage(self) -> str:
        """The stage that the layer belongs to."""
        return stage_of(self.spec.name)

    @property
    def step(self) -> str:
        """``step NAME`` for a layer that a step makes; empty for others."""
        return f"step {self.spec.work.run.name}" if isinstance(self.spec.work, RunStep) else ""

    def locate_key(self, key: str) -> str:
        """Return where a key of the stage's file is."""
        return in_file(self.locations.stage(self.stage), key)


def stage_of(layer: str) -> str:
    """Return the stage that a layer's name begins with."""
    return layer.partition("/")[0]


def in_file(file: str, key: str) -> str:
    """Return ``stages/base/stage.toml: root.suite``; empty if the file is not known."""
    return f"{file}: {key}" if file else ""


def in_settings(key: str) -> str:
    """Return where a setting is."""
    return f"pyproject.toml: [tool.buildkit] {key}"
