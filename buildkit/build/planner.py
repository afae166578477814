"""Plans builds from what the ledger, the blobs, local storage and the remote cache know. Builds nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.context import BuildContext, open_context
from buildkit.build.deliver import Stored, find_stored, find_visible
from buildkit.build.delivery import choose_delivery, open_delivery
from buildkit.build.disk_checkout import DiskCheckout
from buildkit.build.options import PlannerOptions
from buildkit.declare.graph import Graph, load_graph
from buildkit.declare.project import load_project
from buildkit.digest import DiffId, Key
from buildkit.errors import DefinitionError
from buildkit.events import Emit, Note
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.model_source import UrlSource
from buildkit.locks.pins import Artifact
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composer, Composition
from buildkit.plan.plan import LayerSource, LedgerView, Plan, PlannedLayer, make_plan, plan_layer
from buildkit.plan.spec import PackModel, PackPython, PackWheels, Spec
from buildkit.worker_pool import WorkerPool

if TYPE_CHECKING:
    from buildkit.build.layer_causes import Reasons
    from buildkit.remote.cache_record import CacheRecord as Shared

_ASKED_AT_ONCE = 4
_AS_DECLARED = PlannerOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, the reference of its image, and what local storage holds under that reference.

    ``shared`` are the layers that a remote cache told of, whose bytes may be here all the same.
    """

    plan: Plan
    ref: str
    stored: Stored | None
    shared: frozenset[Key] = frozenset()


class Planner:
    """Plans the stages of one checkout on this host."""

    def __init__(self, context: BuildContext, graph: Graph, checkout: DiskCheckout) -> None:
        self.context = context
        self.graph = graph
        self.checkout = checkout
        self.composer = Composer(context.project, graph, checkout, cache(self._compose_for))
        self._find_stored = cache(find_stored)  # asked for several stages

    def _compose_for(self, arch: str) -> Composer:
        checkout = self.checkout.of_arch(arch)
        return Composer(checkout.project, self.graph, checkout)

    def plan(self, name: str, *, storage: bool = True) -> Planned:
        """Return the plan of a stage's image; with ``storage``, layers that local storage has are left there.

        Raises DefinitionError, and ToolError if local storage cannot be read.
        """
        ref, store = self.context.project.ref(name), self.context.image_store
        with WorkerPool(1) as pool:
            pending = pool.submit(find_visible, ref, store) if storage else None  # while the locks are read
            composition = self.composer.compose(name)
            results = self.context.ledger.layers.find(spec.key for spec in composition.specs)
            stored = pending.result() if pending else None
        view = LedgerView(results=results, is_present=self.is_present, stored=self._trusted(stored))
        shared = self._ask_shared(name, make_plan(composition, view))
        results |= {key: record.result for key, record in shared.items()}
        view = replace(view, results=results, shared=shared, why=self._why(composition))
        return Planned(plan=make_plan(composition, view), ref=ref, stored=stored, shared=frozenset(shared))

    def warn_of_gpus(self, name: str) -> None:
        """Emit a warning for each request and setting of GPUs that the locks of a stage cannot meet."""
        resolved = self.graph.resolve(name)
        if resolved.gpu is None and resolved.tuned is None:
            return
        from buildkit.plan.gpu_advice import advise_gpu  # few stages ask for GPUs

        for line in advise_gpu(resolved, self.composer.compose(name).layers):
            self.context.emit(Note(text=line, warning=True))

    def _ask_shared(self, name: str, plan: Plan) -> dict[Key, Shared]:
        """Ask the remote cache for the layers that would have to be built."""
        return self.context.remote_cache.find_records(name, [entry.spec.key for entry in plan.missing])

    def stored_keys(self, planned: Planned) -> frozenset[Key]:
        """Return the layers that need no import: local storage has them in the image of this or another stage.

        With an image store, they are those that it has as trees.
        """
        layers = planned.plan.entries
        if (store := self.context.image_store) is not None:
            return frozenset(
                e.spec.key for e in layers if e.result and all(store.has_tree(b.diff_id) for b in e.result.blobs)
            )
        known = {layer.spec.key for layer in layers if layer.source is LayerSource.STORAGE}
        first = next((layer for layer in layers if layer.source is not LayerSource.STORAGE), None)
        if first is None or first.result is None:  # storage cannot have a layer that was never built, nor any above it
            return frozenset(known)
        results = {layer.spec.key: layer.result for layer in layers if layer.result is not None}
        refs = sorted({self.context.project.ref(name) for name in self.graph.stages} - {planned.ref})
        with WorkerPool(_ASKED_AT_ONCE) as pool:
            for stored in filter(None, pool.map(self._find_stored, refs)):
                view = LedgerView(results=results, is_present=lambda _blob: False, stored=self._trusted(stored))
                plan = make_plan(planned.plan.composition, view)
                known |= {layer.spec.key for layer in plan.entries if layer.source is LayerSource.STORAGE}
        return frozenset(known)

    def _trusted(self, stored: Stored | None) -> tuple[DiffId, ...]:
        """Return the lower layers of a stored image, up to the first whose tree is not there, or not believed."""
        diff_ids, store = stored.diff_ids if stored else (), self.context.image_store
        return diff_ids if store is None else tuple(takewhile(store.has_tree, diff_ids))

    def plan_tools(self, plan: Plan) -> tuple[PlannedLayer, ...]:
        """Return the layers that building needs besides those of the image: the compiler's root, and the builder."""
        own = {spec.key for spec in plan.composition.specs}
        wheels = [e.spec.work for e in plan.missing if isinstance(e.spec.work, PackWheels)]
        others = [spec for spec in self.tools(wheels, only_missing=True) if spec.key not in own]
        results = self.context.ledger.layers.find(spec.key for spec in others)
        view = LedgerView(results=results, is_present=self.is_present, why=self._why(plan.composition))
        return tuple(plan_layer(spec, view) for spec in others)

    def tools(self, works: Sequence[PackWheels], *, only_missing: bool = False) -> tuple[Spec, ...]:
        """Return the layers needed to pack wheels: the root of the bytecode compiler, and the builder.

        The builder is needed if the lock has a wheel that is compiled here; with ``only_missing``, if such a wheel is
        not in the cache.
        """
        specs: dict[Key, Spec] = {}
        if works and self.context.project.bytecode:
            specs |= {spec.key: spec for spec in self.composer.compiler}
        compiled = [item for work in works for item in work.compiled]
        if any(not only_missing or self.context.files.find_wheel(item.key) is None for item in compiled):
            specs |= {spec.key: spec for spec in self.composer.builder.specs}
        return tuple(specs.values())

    def reasons(self, composition: Composition) -> Reasons:
        """Return the finder of causes for building layers of an image and of its tools."""
        from buildkit.build.layer_causes import CheckoutLocations, Reasons

        locations = CheckoutLocations(self.graph, self.composer, self.checkout, composition)
        refs = {name: self.context.project.ref(name) for name in self.graph.stages}
        return Reasons(self.context.ledger, locations, composition, refs)

    def is_present(self, blob: Blob) -> bool:
        """Return whether this host has a layer, as a blob or as a tree; its bytes are not read."""
        return self.context.layers.has(blob)

    def lookup(self, keys: Iterable[Key]) -> Mapping[Key, LayerResult]:
        """Return the results of those keys whose layers are all on this host, as blobs or as trees."""
        results = self.context.ledger.layers.find(keys)
        return {key: result for key, result in results.items() if all(map(self.is_present, result.blobs))}

    def to_fetch(self, spec: Spec) -> int | None:
        """Return how many bytes building a layer downloads; None if only the build can tell."""
        work = spec.work
        match work:
            case PackWheels():
                needed = [a for a in work.wheels if a.is_wheel]
                needed += [c.artifact for c in work.compiled if self.context.files.find_wheel(c.key) is None]
                return sum(a.size for a in needed if not self._has(a))
            case PackPython():
                archive, has = work.archive, self.context.blobs.has_file
                return 0 if has(archive.sha256, archive.file) else archive.size
            case PackModel() if work.model.wheel is not None:
                return 0 if self._has(work.model.wheel) else work.model.wheel.size
            case PackModel() if isinstance(work.model.source, UrlSource):
                has = self.context.blobs.has_file
                return sum(f.size for f in work.files if not has(f.sha256, Path(f.path).name))
            case _:
                return None if spec.is_of_root else 0

    def _has(self, artifact: Artifact) -> bool:
        return artifact.sha256 is None or self.context.blobs.has_file(artifact.sha256, artifact.file)

    def _why(self, composition: Composition) -> Callable[[Spec], str]:
        """Return a function that gives the causes in one line; it reads and imports what it needs when it is called."""
        reasons: list[Reasons] = []

        def why(spec: Spec) -> str:
            from buildkit.plan.explain.causes import format_causes

            if not reasons:
                reasons.append(self.reasons(composition))
            return format_causes(reasons[0].find(spec))

        return why


@contextmanager
def open_planner(
    folder: Path,
    emit: Emit,
    options: PlannerOptions = _AS_DECLARED,
    *,
    stop: threading.Event | None = None,
) -> Iterator[Planner]:
    """Open a planner for the project in ``folder`` and the user's cache; raises DefinitionError and BuildError."""
    project = load_project(folder, options.arch)
    graph = load_graph(folder, dict(options.args), lambda: _ready_arguments(folder))
    chosen = choose_delivery(options.delivery, project)
    with open_context(project, emit, stop=stop) as opened, open_delivery(chosen, emit) as store:
        layers = replace(opened.layers, trees=store or opened.layers.trees)
        context = replace(
            opened, secrets=options.secrets, image_store=store, layers=layers, compilers=options.compilers
        )
        checkout = DiskCheckout(project, graph, context.stat_index, emit, models=options.models, locks=options.locks)
        yield Planner(context, graph, checkout)


def _ready_arguments(folder: Path) -> Mapping[str, str]:
    from buildkit.build.commit_labels import ready_arguments  # few labels need it

    return ready_arguments(folder)


def shipping_stages(graph: Graph) -> tuple[str, ...]:
    """Return the names of the stages that ship; raises DefinitionError if there are none."""
    names = tuple(name for name, stage in graph.stages.items() if stage.ships)
    if not names:
        raise DefinitionError("no stage ships", hint="set `ships = true` in a stage file, or build a stage by name")
    return names


def check_stage(graph: Graph, name: str) -> str:
    """Return ``name`` if there is such a stage; raises DefinitionError with similar names otherwise."""
    if name not in graph.stages:
        from difflib import get_close_matches

        close = get_close_matches(name, graph.stages) or sorted(graph.stages)
        raise DefinitionError(f"there is no stage `{name}`", hint=f"did you mean {', '.join(close)}?")
    return name
