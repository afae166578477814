"""``nox -s graph``: a picture of stages and layers, sized by bytes and coloured by what would be rebuilt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from buildkit.build.planner import Planner
from buildkit.declare.graph import Graph
from buildkit.declare.stage import Stage
from buildkit.digest import Key
from buildkit.inspection.plan import Outlook, look
from buildkit.plan.forecast import Cost
from buildkit.plan.plan import LayerSource, PlannedLayer
from buildkit.plan.spec import Kind
from buildkit.report.stage_graph import Box, Edge, Image, Layer, Picture, Tie, add_up

_FIRST = (LayerSource.BUILT, LayerSource.STORAGE, LayerSource.CACHE, LayerSource.SHARED)
_OPEN = (Kind.ROOT, Kind.IMAGE, Kind.RUN)  # how large they get, nobody knows before they are made
_SMALLEST = 1024  # an empty tar
_NO_REASON = ("", "first build")  # what a stage says that has no past: another may know more


def collect(planner: Planner, asked: Iterable[str]) -> Picture:
    """The picture of stages and of all that their images need; raises DefinitionError, and ToolError from storage."""
    outlooks = {name: look(planner, name) for name in sorted(asked)}
    order = arrange(planner.graph, outlooks)
    if any(entry.source is LayerSource.BUILT for outlook in outlooks.values() for entry in outlook.tools):
        project = planner.context.project
        helpers = {name for name in (project.builder, project.bytecode_root) if name in planner.graph.stages}
        order = list(dict.fromkeys((*arrange(planner.graph, helpers - set(order)), *order)))
    places = _place(planner.graph, order, outlooks)
    containers: dict[str, Box] = {}
    for name in order:
        stage = planner.graph.stages[name]
        edges = tuple(edge for edge in _edges(stage) if edge.stage in containers)
        layers = tuple(places.get(name, ()))
        if layers or edges or name in outlooks:
            containers[name] = Box(
                name=name,
                summary=stage.summary,
                ships=stage.ships,
                edges=edges,
                layers=layers,
                image=_image(outlooks[name]) if name in outlooks else None,
            )
    return Picture(project=planner.context.project.name, containers=tuple(containers.values()))


def arrange(graph: Graph, names: Iterable[str]) -> list[str]:
    """Stages and all that they are made of, each after what it is made of; what ships comes first."""
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in order:
            for edge in _edges(graph.stages[name]):
                visit(edge.stage)
            order[name] = None

    for name in sorted(names, key=lambda name: (not graph.stages[name].ships, name)):
        visit(name)
    return list(order)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A layer as one image plans it; ``image`` is empty where it only helps to build that image."""

    owner: str
    image: str
    entry: PlannedLayer
    bytes: int | None


def _place(graph: Graph, order: Sequence[str], outlooks: Mapping[str, Outlook]) -> dict[str, list[Layer]]:
    """Every layer once, by the first stage that brings it."""
    seen: dict[Key, list[_Seen]] = {}
    for name in order:
        if name in outlooks:
            for one in _see(graph, order, outlooks[name]):
                seen.setdefault(one.entry.spec.key, []).append(one)
    places: dict[str, list[Layer]] = {}
    for group in seen.values():
        owner = min((one.owner for one in group), key=order.index)
        places.setdefault(owner, []).append(_merge(group, owner))
    return places


def _see(graph: Graph, order: Sequence[str], outlook: Outlook) -> Iterator[_Seen]:
    parts = {part.name for part in graph.resolve(outlook.stage).parts}
    shared = next((name for name in order if name in parts and graph.stages[name].wheels), outlook.stage)
    for image, entries, costs in (
        (outlook.stage, outlook.plan.entries, outlook.costs),
        ("", outlook.tools, outlook.tool_costs),
    ):
        for entry, cost in zip(entries, costs, strict=True):
            stage = entry.spec.name.partition("/")[0]
            owner = stage if stage in order else shared  # the virtual environment belongs to every stage with wheels
            if image or entry.source is LayerSource.BUILT:
                yield _Seen(owner=owner, image=image, entry=entry, bytes=_size(entry, cost))


def _merge(group: Sequence[_Seen], owner: str) -> Layer:
    """One layer as several images see it: to be built if one of them must build it, else where it is nearest."""
    first = min(group, key=lambda one: (_FIRST.index(one.entry.source), one.entry.why in _NO_REASON))
    spec = next(one.entry.spec for one in group if one.owner == owner)
    return Layer(
        name=spec.name,
        kind=str(spec.kind),
        key=str(spec.key),
        source=first.entry.source,
        bytes=first.bytes,
        why=first.entry.why,
        images=tuple(one.image for one in group if one.image),
    )


def _edges(stage: Stage) -> Iterator[Edge]:
    if stage.base:
        yield Edge(tie=Tie.FROM, stage=stage.base)
    for name in stage.include:
        yield Edge(tie=Tie.INCLUDE, stage=name)


def _image(outlook: Outlook) -> Image:
    pairs = list(zip(outlook.plan.entries, outlook.costs, strict=True))
    return Image(
        whole=add_up(_size(entry, cost) for entry, cost in pairs),
        build=add_up(_size(entry, cost) for entry, cost in pairs if entry.source is LayerSource.BUILT),
        imports=add_up(_size(entry, cost) for entry, cost in pairs if entry.source is not LayerSource.STORAGE),
    )


def _size(entry: PlannedLayer, cost: Cost) -> int | None:
    known = entry.unpacked or cost.build or 0
    return known or (None if entry.spec.kind in _OPEN else _SMALLEST)
