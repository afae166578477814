"""Find what the stages of a checkout need: layers, wheels, downloads, and images that containers start from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from buildkit.build.collision_sets import set_key
from buildkit.build.context import BuildContext
from buildkit.build.disk_checkout import DiskCheckout
from buildkit.build.root_references import base_ref, root_ref, whole_ref
from buildkit.declare.graph import Graph, load_graph
from buildkit.declare.project import Project
from buildkit.digest import FileHash, Key
from buildkit.errors import DefinitionError
from buildkit.events import Emit, Note
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.compose import Composer, Composition
from buildkit.plan.spec import BuildContainerfile, Compile, PackModel, PackPython, PackWheels, RunStep, Spec
from buildkit.store.stat_index import Hashed, StatIndex, stat_key
from buildkit.store.tables.files import StatKey

Names = tuple[str, ...]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """Everything that is needed, with the stages that need it.

    ``specs`` and ``wheels`` describe the keys, ``refs`` are names in local storage, ``checked`` sets of layers,
    ``files`` the stats of the checkout's files.
    """

    layers: Mapping[Key, Names]
    specs: Mapping[Key, Spec]
    wheels: Mapping[Key, Compile]
    downloads: Mapping[FileHash, Names]
    refs: frozenset[str]
    checked: frozenset[Key]
    files: frozenset[StatKey]


def find_needed(context: BuildContext, graph: Graph, emit: Emit) -> Needed:
    """Compose every stage and collect what it needs; raises DefinitionError for an invalid one."""
    index = _RecordingIndex(context)

    @cache
    def compose_for(arch: str) -> Composer:
        project = projects[arch]
        return Composer(project, graph, DiskCheckout(project, graph, index, emit), compose_for)

    projects = {project.target.arch: project for project in context.project.of_each_arch()}
    parts = [collect_needed(project, graph, compose_for(arch)) for arch, project in projects.items()]
    return replace(_join(parts), files=frozenset(index.seen))


def _join(parts: Sequence[Needed]) -> Needed:
    """Return what is needed for any of several processors."""
    first, *others = parts
    for part in others:
        first = Needed(
            layers=_join_names(first.layers, part.layers),
            specs={**part.specs, **first.specs},
            wheels={**part.wheels, **first.wheels},
            downloads=_join_names(first.downloads, part.downloads),
            refs=first.refs | part.refs,
            checked=first.checked | part.checked,
            files=first.files | part.files,
        )
    return first


def _join_names(first: Mapping[_Item, Names], second: Mapping[_Item, Names]) -> dict[_Item, Names]:
    """Return the stages that need each item, each once and in their order."""
    items = {**first, **second}
    return {item: tuple(dict.fromkeys((*first.get(item, ()), *second.get(item, ())))) for item in items}


def collect_needed(project: Project, graph: Graph, composer: Composer) -> Needed:
    """Collect what the stages need, without ``files``."""
    compositions = [composer.compose(name) for name in graph.stages]
    users: dict[Key, dict[str, None]] = {}
    downloads: dict[FileHash, dict[str, None]] = {}
    for composition in compositions:
        name = composition.stage.name
        for spec in composition.specs:
            users.setdefault(spec.key, {})[name] = None
            for sha256 in _downloads(spec):
                downloads.setdefault(sha256, {})[name] = None
    specs = {spec.key: spec for composition in compositions for spec in composition.specs}
    wheels = {item.key: item for spec in specs.values() for item in spec.compiled}
    for item in wheels.values():  # a layer of the stage contains them
        users.setdefault(item.key, {}).update(_users_of(item.key, compositions))
    return Needed(
        layers={key: tuple(names) for key, names in users.items()},
        specs=specs,
        wheels=wheels,
        downloads={sha256: tuple(names) for sha256, names in downloads.items()},
        refs=frozenset(_refs(project, composer, specs.values(), bool(wheels))),
        checked=frozenset(set_key(composition) for composition in compositions),
        files=frozenset(),
    )


def ask_needed(context: BuildContext, folder: Path, emit: Emit) -> Needed | None:
    """Return `find_needed`, or None, with a warning, if the stages cannot be read."""
    try:
        return find_needed(context, load_graph(folder), emit)
    except DefinitionError as error:
        emit(Note(text=f"what the stages need is unknown: {error.message}", warning=True))
        return None


class _RecordingIndex(StatIndex):
    """A stat index that records which files were hashed with it."""

    def __init__(self, context: BuildContext) -> None:
        super().__init__(context.ledger, context.emit)
        self.seen: set[StatKey] = set()

    def hash(self, path: Path) -> Hashed:
        """Hash a file, and record its stat."""
        hashed = super().hash(path)
        self.seen.add(stat_key(hashed[1]))
        return hashed

    def hash_all(self, folder: Path, names: Iterable[str]) -> dict[str, Hashed]:
        """Hash files, and record their stats."""
        hashed = super().hash_all(folder, names)
        self.seen.update(stat_key(status) for _, status in hashed.values())
        return hashed


def _downloads(spec: Spec) -> Iterator[FileHash]:
    """Yield the files that building a layer would fetch: wheels, sdists, models from URLs and models in wheels."""
    work = spec.work
    match work:
        case PackWheels():
            yield from (a.sha256 for a in work.wheels if a.sha256 is not None)
        case PackPython():
            yield work.archive.sha256
        case PackModel():
            yield from _model_downloads(work.model, work.files)
        case _:
            pass  # nothing is fetched for it


def _model_downloads(model: Model, files: Iterable[ModelFile]) -> Iterator[FileHash]:
    """Yield the files of the cache that a model is read from, and those that it would be derived from again."""
    if model.wheel is not None and model.wheel.sha256 is not None:
        yield model.wheel.sha256
    elif model.has_own_files:
        yield from (file.sha256 for file in files)
    if model.origin is not None:
        yield from _model_downloads(model.origin.source, model.origin.source.files)


def _users_of(wheel: Key, compositions: Iterable[Composition]) -> dict[str, None]:
    return {
        composition.stage.name: None
        for composition in compositions
        if any(item.key == wheel for spec in composition.specs for item in spec.compiled)
    }


def _refs(project: Project, composer: Composer, specs: Iterable[Spec], compiles: bool) -> Iterator[str]:
    """Yield the images that builds start containers from: bases of steps, the bytecode compiler's, and the builder."""
    listed = list(specs)
    for spec in listed:
        if isinstance(spec.work, RunStep):
            yield root_ref(project, spec.work.chain)
        if isinstance(spec.work, BuildContainerfile):
            yield from (base_ref(project, image) for _, image in spec.work.images)
    if project.bytecode and any(isinstance(spec.work, PackWheels) for spec in listed):
        yield root_ref(project, composer.compiler)
    if compiles:
        yield whole_ref(project, composer.builder)
    derived = (spec.work.model.derivation for spec in listed if isinstance(spec.work, PackModel))
    for stage in dict.fromkeys(one.stage for one in derived if one is not None):
        yield whole_ref(project, composer.compose(stage))
