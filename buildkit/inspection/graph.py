"""Collect the picture of stages and layers: sizes, sources, and what would be rebuilt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from buildkit.build.planner import Planner
from buildkit.declare.graph import Graph
from buildkit.declare.stage import Stage
from buildkit.digest import Key
from buildkit.inspection.plan import StageForecast, forecast_stage
from buildkit.plan.forecast import Cost
from buildkit.plan.plan import LayerSource, PlannedLayer
from buildkit.plan.spec import OF_ROOT
from buildkit.report.stage_graph import Edge, EdgeKind, GraphLayer, ImageTotals, Picture, StageNode, sum_sizes

_FIRST = (LayerSource.BUILT, LayerSource.STORAGE, LayerSource.CACHE, LayerSource.SHARED)
_OPEN = OF_ROOT  # their size is unknown before they are built
_SMALLEST = 1024  # an empty tar
_NO_REASON = ("", "first build")  # reasons of a stage without history: another stage may know more


def collect(planner: Planner, requested: Iterable[str]) -> Picture:
    """Return the picture of stages and all that their images need; raises DefinitionError, and ToolError of storage."""
    forecasts = {name: forecast_stage(planner, name) for name in sorted(requested)}
    order = arrange(planner.graph, forecasts)
    if any(
        entry.source is LayerSource.BUILT for stage_forecast in forecasts.values() for entry in stage_forecast.tools
    ):
        project = planner.context.project
        helpers = {name for name in (project.builder, project.bytecode_root) if name in planner.graph.stages}
        order = list(dict.fromkeys((*arrange(planner.graph, helpers - set(order)), *order)))
    places = _place(planner.graph, order, forecasts)
    stages: dict[str, StageNode] = {}
    for name in order:
        stage = planner.graph.stages[name]
        edges = tuple(edge for edge in _edges(stage) if edge.stage in stages)
        layers = tuple(places.get(name, ()))
        if layers or edges or name in forecasts:
            stages[name] = StageNode(
                name=name,
                summary=stage.summary,
                ships=stage.ships,
                edges=edges,
                layers=layers,
                image=_image(forecasts[name]) if name in forecasts else None,
            )
    return Picture(project=planner.context.project.name, stages=tuple(stages.values()))


def arrange(graph: Graph, names: Iterable[str]) -> list[str]:
    """Return stages with all that they are made of, in build order; those that ship come first."""
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
class _PlannedUse:
    """A layer in the plan of one image; ``image`` is empty if the layer only helps to build it."""

    owner: str
    image: str
    entry: PlannedLayer
    bytes: int | None


def _place(graph: Graph, order: Sequence[str], forecasts: Mapping[str, StageForecast]) -> dict[str, list[GraphLayer]]:
    """Return every layer once, by the first stage that adds it."""
    uses: dict[Key, list[_PlannedUse]] = {}
    for name in order:
        if name in forecasts:
            for use in _see(graph, order, forecasts[name]):
                uses.setdefault(use.entry.spec.key, []).append(use)
    places: dict[str, list[GraphLayer]] = {}
    for group in uses.values():
        owner = min((use.owner for use in group), key=order.index)
        places.setdefault(owner, []).append(_merge(group, owner))
    return places


def _see(graph: Graph, order: Sequence[str], stage_forecast: StageForecast) -> Iterator[_PlannedUse]:
    parts = {part.name for part in graph.resolve(stage_forecast.stage).parts}
    shared = next((name for name in order if name in parts and graph.stages[name].wheels), stage_forecast.stage)
    for image, entries, costs in (
        (stage_forecast.stage, stage_forecast.plan.entries, stage_forecast.costs),
        ("", stage_forecast.tools, stage_forecast.tool_costs),
    ):
        for entry, cost in zip(entries, costs, strict=True):
            stage = entry.spec.name.partition("/")[0]
            owner = stage if stage in order else shared  # the virtual environment belongs to every stage with wheels
            if image or entry.source is LayerSource.BUILT:
                yield _PlannedUse(owner=owner, image=image, entry=entry, bytes=_size(entry, cost))


def _merge(group: Sequence[_PlannedUse], owner: str) -> GraphLayer:
    """Merge the views of several images: to be built if one of them must build it, else at the nearest source."""
    first = min(group, key=lambda use: (_FIRST.index(use.entry.source), use.entry.why in _NO_REASON))
    spec = next(use.entry.spec for use in group if use.owner == owner)
    return GraphLayer(
        name=spec.name,
        kind=str(spec.kind),
        key=str(spec.key),
        source=first.entry.source,
        bytes=first.bytes,
        why=first.entry.why,
        images=tuple(use.image for use in group if use.image),
    )


def _edges(stage: Stage) -> Iterator[Edge]:
    if stage.base:
        yield Edge(kind=EdgeKind.FROM, stage=stage.base)
    for name in stage.include:
        yield Edge(kind=EdgeKind.INCLUDE, stage=name)


def _image(stage_forecast: StageForecast) -> ImageTotals:
    pairs = list(zip(stage_forecast.plan.entries, stage_forecast.costs, strict=True))
    return ImageTotals(
        whole=sum_sizes(_size(entry, cost) for entry, cost in pairs),
        build=sum_sizes(_size(entry, cost) for entry, cost in pairs if entry.source is LayerSource.BUILT),
        imports=sum_sizes(_size(entry, cost) for entry, cost in pairs if entry.source is not LayerSource.STORAGE),
        unpacks=stage_forecast.unpacks,
    )


def _size(entry: PlannedLayer, cost: Cost) -> int | None:
    size = entry.unpacked or cost.build or 0
    return size or (None if entry.spec.kind in _OPEN else _SMALLEST)
