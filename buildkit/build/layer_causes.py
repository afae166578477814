"""Find the causes for building layers in the ledger and the checkout; both are read only when a cause needs them."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping
from functools import cache, cached_property

from buildkit.build.disk_checkout import DiskCheckout
from buildkit.declare.graph import Graph
from buildkit.digest import Key
from buildkit.errors import DefinitionError
from buildkit.locks.apt_lock import apt_lock_path
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, Pin
from buildkit.plan.compose import Composer, Composition
from buildkit.plan.explain.causes import Cause, CauseKind
from buildkit.plan.explain.comparison import PastRecipe
from buildkit.plan.explain.find_causes import find_causes
from buildkit.plan.spec import PackWheels, Spec
from buildkit.store.build_history import find_recipe
from buildkit.store.ledger import Ledger
from buildkit.store.tables.tombstones import Tombstone


class Reasons:
    """The causes for building the layers of ``composition`` and of the tools that build it."""

    def __init__(
        self, ledger: Ledger, locations: CheckoutLocations, composition: Composition, refs: Mapping[str, str]
    ) -> None:
        self._history = LedgerHistory(ledger, composition.stage.name, refs)
        self._locations = locations

    def find(self, spec: Spec) -> tuple[Cause, ...]:
        """Return the causes for a layer that must be built."""
        history = self._history
        if spec.name in history.forgotten:
            return (history.fate(spec.key) or Cause(CauseKind.FORGOTTEN),)
        if history.is_first(spec.name):
            return (history.fate(spec.key) or Cause(CauseKind.FIRST_BUILD),)
        return find_causes(spec, history.last.get(spec.name), history, self._locations)


class LedgerHistory:
    """The ledger's record of earlier builds of a stage; ``refs`` are the images of all stages, by stage."""

    def __init__(self, ledger: Ledger, stage: str, refs: Mapping[str, str]) -> None:
        self._ledger = ledger
        self._stage = stage
        self._refs = refs

    @cached_property
    def last(self) -> Mapping[str, str]:
        """Recipes of the stage's last build by layer name, with those of the builder that compiled its wheels.

        For a stage that was never built itself: the recipes of the last builds of all other stages, which may include
        its layers or use it as their builder. The latest build counts.
        """
        builds = [self._own] if self._own else self._others()
        return {
            name: recipe for recipes in builds for name, recipe in (self._tools(recipes.values()) | recipes).items()
        }

    def is_first(self, layer: str) -> bool:
        """Return whether neither this stage nor any layer of the stage that ``layer`` belongs to was ever built."""
        stage = layer.partition("/")[0]
        return not self._own and not any(name.startswith(f"{stage}/") for name in self.last)

    @cached_property
    def forgotten(self) -> frozenset[str]:
        """Layers of the stage's last build that the ledger no longer knows: it drops old rows."""
        builds = self._ledger.builds.last(self._stage, self._refs[self._stage], 1)
        names = (layer["name"] for _, report in builds for layer in report["layers"])
        return frozenset(name for name in names if name not in self.last)

    def find(self, key: str) -> PastRecipe | None:
        """Find the layer or compiled wheel with a key."""
        found = find_recipe(self._ledger, key)
        return PastRecipe(name=found[0], recipe=found[1]) if found else None

    def fate(self, key: Key) -> Cause | None:
        """Return what happened to a layer whose blobs are missing; None for a layer that was never built."""
        tombstone = self._ledger.tombstones.find([key]).get(key)
        if tombstone is not None:
            return read_tombstone(tombstone)
        if self._ledger.layers.is_damaged(key):
            return Cause(CauseKind.ROW_DAMAGED)
        return Cause(CauseKind.BLOB_GONE) if find_recipe(self._ledger, key.hex) else None

    def _tools(self, recipes: Iterable[str]) -> dict[str, str]:
        """Return the recipes of the builder that compiled the wheels of these layers, by layer name."""
        wheels = (wheel for recipe in recipes for wheel in json.loads(recipe).get("wheels", ()))
        compiled = (self.find(wheel["compiled"]) for wheel in wheels if "compiled" in wheel)
        keys = {key for past in compiled if past for key in json.loads(past.recipe).get("builder", ())}
        layers = (self.find(key) for key in sorted(keys))
        return {layer.name: layer.recipe for layer in layers if layer}

    @cached_property
    def _own(self) -> dict[str, str]:
        return self._ledger.last_recipes(self._stage, self._refs[self._stage])

    def _others(self) -> list[dict[str, str]]:
        """Return the recipes of the last build of every stage, the latest build last."""
        lasts = {pair: self._ledger.builds.last(*pair, 1) for pair in self._refs.items()}
        built = sorted((builds[0][0], pair) for pair, builds in lasts.items() if builds)
        return [self._ledger.last_recipes(*pair) for _, pair in built]


def read_tombstone(tombstone: Tombstone) -> Cause:
    """Return the cause that gc or verify recorded when it removed a layer or found it missing."""
    reason, _, detail = tombstone.why.partition(", ")
    match reason:
        case "damaged":
            return Cause(CauseKind.DAMAGED, at=tombstone.at, why=detail)
        case "row damaged":
            return Cause(CauseKind.ROW_DAMAGED, at=tombstone.at, why=detail)
        case "missing":
            return Cause(CauseKind.BLOB_GONE)
        case "shared":
            return Cause(CauseKind.ONLY_SHARED, repository=detail)
        case _:
            return Cause(
                CauseKind.EVICTED, at=tombstone.at, why=tombstone.why.removeprefix("evicted by gc").lstrip(":, ")
            )


class CheckoutLocations:
    """Locates the parts of recipes in a checkout on disk, as ``file`` or ``file:line``."""

    def __init__(self, graph: Graph, composer: Composer, checkout: DiskCheckout, composition: Composition) -> None:
        self._graph = graph
        self._composer = composer
        self._checkout = checkout
        self._composition = composition
        self._pins = cache(self._read_pins)

    def stage(self, name: str) -> str:
        """Return the file of a stage, or where it was if the stage is gone."""
        definition = self._graph.stages.get(name)
        return definition.file if definition else f"stages/{name}/stage.toml"

    def pin(self, stage: str, name: str, path: str = "") -> str:
        """Return the line of a stage's locks that pins a wheel; the lock if no line does."""
        locks = self._graph.stages[stage].wheels if stage in self._graph.stages else ()
        for pin in (pin for lock in locks for pin in self._pins(lock)):
            same = posixpath.normpath(pin.path) == posixpath.normpath(path) if path else pin.name == name
            if same and bool(pin.path) == bool(path):
                return f"{pin.file}:{pin.line}"
        return locks[0] if len(locks) == 1 else f"{self.stage(stage)}: wheels.locks"

    def wheel_layer(self, stage: str, name: str) -> str:
        """Return the layer of a stage that holds a wheel now."""
        for spec in self._composition.layers:
            named = isinstance(spec.work, PackWheels) and any(wheel.name == name for wheel in spec.work.wheels)
            if named and spec.name.startswith(f"{stage}/"):
                return spec.name
        return ""

    def package(self, packages: str, name: str) -> str:
        """Return the line of an apt lock that pins a package."""
        lock = apt_lock_path(packages, self._checkout.project.target.lock_arch)
        return self._line(lock, [f"{name}="])

    def model_file(self, stage: str, model: str, path: str) -> str:
        """Return the file of a model if the repository holds it, else its line in the models lock."""
        models = self._graph.stages[stage].models if stage in self._graph.stages else None
        if models is None:
            return ""
        model_entry = next((entry for entry in self._checkout.models(models.lock) if entry.name == model), None)
        if model_entry and isinstance(model_entry.source, RepoSource):
            return _own_file(model_entry, path) or models.lock
        return self._line(models.lock, [f'name = "{model}"', f'path = "{path}"'])

    def compiler(self) -> tuple[Spec, ...]:
        """Return the root whose interpreter compiles bytecode."""
        return self._composer.bytecode_root

    def builder(self) -> tuple[Spec, ...]:
        """Return the stage in which sdists are compiled."""
        return self._composer.builder.specs

    def _read_pins(self, lock: str) -> tuple[Pin, ...]:
        try:
            return self._checkout.pins(lock)
        except DefinitionError:
            return ()  # layers are made from the other lock, of wheels

    def _line(self, file: str, starts: list[str]) -> str:
        """Return the line that begins with the last of ``starts``, after lines with the others; else the file."""
        remaining = iter(starts)
        start = next(remaining)
        for number, line in enumerate((self._checkout.read(file) or "").splitlines(), 1):
            if line.startswith(start):
                following = next(remaining, None)
                if following is None:
                    return f"{file}:{number}"
                start = following
        return file


def _own_file(model: Model, path: str) -> str:
    return next((file.source for file in model.files if file.path == path), "")
