"""Why a layer is built: what is asked of the past and of the checkout, and the causes found from both.

Builds that have nothing to build do not import this, and first builds not what compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from buildkit.digest import Key
from buildkit.plan.spec import Spec

if TYPE_CHECKING:
    from buildkit.plan.explain.causes import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A recipe that something was made from, and the name of the layer (empty for a compiled wheel)."""

    name: str
    recipe: str


class History(Protocol):
    """What is known of earlier builds."""

    @property
    def last(self) -> Mapping[str, str]:
        """Layer name to recipe of the last build of the image; empty before the first."""

    def find(self, key: str) -> Past | None:
        """What has the key (64 hexadecimal digits): a layer or a compiled wheel, whether it is still there or not."""

    def fate(self, key: Key) -> Cause | None:
        """What happened to a layer that was made before: evicted, damaged, its blob gone; None for no such layer."""


class Places(Protocol):
    """Where what a recipe holds stands in the checkout; answers are ``file`` or ``file:line``, relative to it."""

    def stage(self, name: str) -> str:
        """The file of a stage."""

    def pin(self, stage: str, name: str, path: str = "") -> str:
        """The line of a stage's locks that pins a wheel, or a package of the repository at ``path``."""

    def wheel_layer(self, stage: str, name: str) -> str:
        """The name of the layer of a stage that a wheel is in; empty for none."""

    def package(self, packages: str, name: str) -> str:
        """The line that pins a Debian package in the lock beside an apt list."""

    def model_file(self, stage: str, model: str, path: str) -> str:
        """The line of a stage's models lock that has a file, or the file itself where it is the repository's."""

    def compiler(self) -> tuple[Spec, ...]:
        """The root whose interpreter compiles bytecode."""

    def builder(self) -> tuple[Spec, ...]:
        """The stage in which sdists are compiled."""


def find_causes(spec: Spec, before: str | None, history: History, places: Places) -> tuple[Cause, ...]:
    """Why a layer must be built: at least one cause, each once.

    ``before`` is the recipe of the layer of that name in the last build, None where it had none.
    """
    from buildkit.plan.explain.causes import FirstBuild, Forgotten

    fate = history.fate(spec.key)
    causes: tuple[Cause, ...] = (fate,) if fate else ()
    if before is None and not history.last:
        return causes or (FirstBuild(),)
    from buildkit.plan.explain.recipe_diff import Case, compare, compare_new

    case = Case(spec=spec, history=history, places=places)
    found = compare_new(case) if before is None else compare(case, before)
    return tuple(dict.fromkeys((*found, *causes))) or (Forgotten(),)
