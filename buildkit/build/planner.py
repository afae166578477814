"""Planning on this host: what the ledger, the blobs and local storage know, put together. Builds nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.context import BuildContext, open_context
from buildkit.build.deliver import Stored, find_stored
from buildkit.build.disk_checkout import DiskCheckout
from buildkit.declare.graph import Graph, load_graph
from buildkit.declare.project import load_project
from buildkit.digest import Key
from buildkit.errors import DefinitionError
from buildkit.events import Emit
from buildkit.locks.model_source import UrlSource
from buildkit.locks.pins import Artifact
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composer, Composition
from buildkit.plan.plan import LayerSource, LedgerView, Plan, PlannedLayer, make_plan, plan_layer
from buildkit.plan.spec import Kind, PackModel, PackWheels, Spec

if TYPE_CHECKING:
    from buildkit.build.layer_causes import Reasons
    from buildkit.remote.cache_record import CacheRecord as Shared

_ASKED_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, the name of the image that it makes, and what local storage holds under that name."""

    plan: Plan
    ref: str
    stored: Stored | None


class Planner:
    """Plans stages of one checkout on this host."""

    def __init__(self, context: BuildContext, graph: Graph, checkout: DiskCheckout) -> None:
        self.context = context
        self.graph = graph
        self.checkout = checkout
        self.composer = Composer(context.project, graph, checkout)
        self._find_stored = cache(find_stored)  # for looks at several stages

    def plan(self, name: str, *, storage: bool = True) -> Planned:
        """The plan of a stage's image; with ``storage`` layers that local storage has are left there.

        Raises DefinitionError, and ToolError where local storage cannot be asked.
        """
        ref = self.context.project.ref(name)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(find_stored, ref) if storage else None  # while we read locks
            composition = self.composer.compose(name)
            made = self.context.ledger.layers.find(spec.key for spec in composition.specs)
            stored = asked.result() if asked else None
        view = LedgerView(made=made, is_present=self.is_present, stored=stored.diff_ids if stored else ())
        shared = self._ask_shared(name, make_plan(composition, view))
        made |= {key: entry.made for key, entry in shared.items()}
        view = replace(view, made=made, shared=shared, why=self._why(composition))
        return Planned(plan=make_plan(composition, view), ref=ref, stored=stored)

    def _ask_shared(self, name: str, plan: Plan) -> dict[Key, Shared]:
        """What shared caches have of what would have to be built."""
        return self.context.remote_cache.ask(name, [entry.spec.key for entry in plan.missing])

    def stored_keys(self, planned: Planned) -> frozenset[Key]:
        """Layers that need no import: storage has them as this image needs them, in whichever stage's image."""
        entries = planned.plan.entries
        known = {entry.spec.key for entry in entries if entry.source is LayerSource.STORAGE}
        first = next((entry for entry in entries if entry.source is not LayerSource.STORAGE), None)
        if first is None or first.made is None:  # what was never made is nowhere, and nothing above it
            return frozenset(known)
        made = {entry.spec.key: entry.made for entry in entries if entry.made is not None}
        refs = sorted({self.context.project.ref(name) for name in self.graph.stages} - {planned.ref})
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            for stored in filter(None, pool.map(self._find_stored, refs)):
                view = LedgerView(made=made, is_present=lambda _blob: False, stored=stored.diff_ids)
                plan = make_plan(planned.plan.composition, view)
                known |= {entry.spec.key for entry in plan.entries if entry.source is LayerSource.STORAGE}
        return frozenset(known)

    def plan_tools(self, plan: Plan) -> tuple[PlannedLayer, ...]:
        """What building ``plan`` needs that is no part of its image: the compiler's root, and the builder."""
        own = {spec.key for spec in plan.composition.specs}
        wheels = [e.spec.work for e in plan.missing if isinstance(e.spec.work, PackWheels)]
        others = [spec for spec in self.tools(wheels, anew=False) if spec.key not in own]
        made = self.context.ledger.layers.find(spec.key for spec in others)
        view = LedgerView(made=made, is_present=self.is_present, why=self._why(plan.composition))
        return tuple(plan_layer(spec, view) for spec in others)

    def tools(self, works: Sequence[PackWheels], *, anew: bool = True) -> tuple[Spec, ...]:
        """What is needed to pack these layers: the compiler's root, and the builder.

        The builder is needed if a wheel must be compiled: any of those that are compiled at all, or with ``anew`` false
        only one that is not here.
        """
        specs: dict[Key, Spec] = {}
        if works and self.context.project.bytecode:
            specs |= {spec.key: spec for spec in self.composer.compiler}
        if any(anew or self.context.files.find_wheel(item.key) is None for work in works for item in work.compiled):
            specs |= {spec.key: spec for spec in self.composer.builder.specs}
        return tuple(specs.values())

    def reasons(self, composition: Composition) -> Reasons:
        """Who knows why layers of an image, or of what it is built with, must be built."""
        from buildkit.build.layer_causes import CheckoutLocations, Reasons

        locations = CheckoutLocations(self.graph, self.composer, self.checkout, composition)
        refs = {name: self.context.project.ref(name) for name in self.graph.stages}
        return Reasons(self.context.ledger, locations, composition, refs)

    def is_present(self, blob: Blob) -> bool:
        """Whether the cache has a blob; its bytes are not read."""
        return self.context.blobs.has(blob.digest, blob.size)

    def lookup(self, keys: Iterable[Key]) -> Mapping[Key, LayerResult]:
        """What is made of keys and still in the cache."""
        known = self.context.ledger.layers.find(keys)
        return {key: made for key, made in known.items() if all(map(self.is_present, made.blobs))}

    def to_fetch(self, spec: Spec) -> int | None:
        """Bytes that building a layer must download; None where they are known afterwards only."""
        work = spec.work
        match work:
            case PackWheels():
                needed = [a for a in work.wheels if a.is_wheel]
                needed += [c.artifact for c in work.compiled if self.context.files.find_wheel(c.key) is None]
                return sum(a.size for a in needed if not self._has(a))
            case PackModel() if work.model.wheel is not None:
                return 0 if self._has(work.model.wheel) else work.model.wheel.size
            case PackModel() if isinstance(work.model.source, UrlSource):
                has = self.context.blobs.has_file
                return sum(f.size for f in work.files if not has(f.sha256, Path(f.path).name))
            case _:
                return None if spec.kind in (Kind.ROOT, Kind.IMAGE, Kind.RUN) else 0

    def _has(self, artifact: Artifact) -> bool:
        return artifact.sha256 is None or self.context.blobs.has_file(artifact.sha256, artifact.file)

    def _why(self, composition: Composition) -> Callable[[Spec], str]:
        """Says why in one line; nothing is read or imported for it before it is asked."""
        reasons: list[Reasons] = []

        def why(spec: Spec) -> str:
            from buildkit.plan.explain.causes import format_causes

            if not reasons:
                reasons.append(self.reasons(composition))
            return format_causes(reasons[0].find(spec))

        return why


@contextmanager
def open_planner(
    folder: Path, emit: Emit, *, frozen: bool = False, stop: threading.Event | None = None
) -> Iterator[Planner]:
    """A planner for the project in ``folder`` and the user's cache; raises DefinitionError and BuildError."""
    project = load_project(folder)
    graph = load_graph(folder)
    with open_context(project, emit, stop=stop) as context:
        yield Planner(context, graph, DiskCheckout(project, graph, context.stat_index, emit, frozen=frozen))


def shipping(graph: Graph) -> tuple[str, ...]:
    """Names of the stages that ship; raises DefinitionError for none."""
    names = tuple(name for name, stage in graph.stages.items() if stage.ships)
    if not names:
        raise DefinitionError("no stage ships", hint="say `ships = true` in a stage file, or build one by name")
    return names


def check_stage(graph: Graph, name: str) -> str:
    """``name`` if there is such a stage; raises DefinitionError with those that are meant perhaps."""
    if name not in graph.stages:
        from difflib import get_close_matches

        close = get_close_matches(name, graph.stages) or sorted(graph.stages)
        raise DefinitionError(f"there is no stage `{name}`", hint=f"did you mean {', '.join(close)}?")
    return name
