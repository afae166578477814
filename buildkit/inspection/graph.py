"""``nox -s graph``: a picture of stages and layers, sized by bytes and coloured by what would be rebuilt."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.planner import Planner, check_stage, open_planner
from buildkit.cli.main import check_writable, write_text
from buildkit.cli.options import Parser, RemoteCacheOptions, open_remote_cache
from buildkit.declare.graph import Graph
from buildkit.declare.stage import Stage
from buildkit.digest import Key
from buildkit.inspection.plan import Outlook, look
from buildkit.plan.forecast import Cost
from buildkit.plan.plan import PlannedLayer, Source
from buildkit.plan.spec import Kind
from buildkit.report.stage_graph import Box, Edge, Image, Layer, Picture, Tie, add_up
from buildkit.report.view import open_view

_FIRST = (Source.BUILT, Source.STORAGE, Source.CACHE, Source.SHARED)
_OPEN = (Kind.ROOT, Kind.IMAGE, Kind.RUN)  # how large they get, nobody knows before they are made
_SMALLEST = 1024  # an empty tar
_NO_REASON = ("", "first build")  # what a stage says that has no past: another may know more


def graph(folder: Path, arguments: Sequence[str]) -> None:
    """Draw the stages that are named, or all of them; raises DefinitionError or BuildError."""
    options = _parse(arguments)
    if options.svg is not None:
        check_writable(options.svg)  # before the work, not after it
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        names = [check_stage(planner.graph, name) for name in options.stages] or sorted(planner.graph.stages)
        if options.shared or options.cache:  # else no network is touched
            open_remote_cache(planner.context, RemoteCacheOptions(cache=options.cache, cache_read_only=True))
        picture = collect(planner, dict.fromkeys(names))
    if options.svg is not None:
        from buildkit.report.graph_svg import render_svg

        write_text(options.svg, render_svg(picture))
    elif options.mermaid:
        from buildkit.report.graph_mermaid import render_mermaid

        sys.stdout.write(render_mermaid(picture))
    elif options.json:
        sys.stdout.write(json.dumps(picture.as_json(), indent=2) + "\n")
    else:
        from buildkit.report.graph_tree import render_tree
        from buildkit.report.live import print_lines

        print_lines(render_tree(picture), sys.stdout)


def collect(planner: Planner, asked: Iterable[str]) -> Picture:
    """The picture of stages and of all that their images need; raises DefinitionError, and ToolError from storage."""
    outlooks = {name: look(planner, name) for name in sorted(asked)}
    order = arrange(planner.graph, outlooks)
    if any(entry.source is Source.BUILT for outlook in outlooks.values() for entry in outlook.tools):
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
            if image or entry.source is Source.BUILT:
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
        build=add_up(_size(entry, cost) for entry, cost in pairs if entry.source is Source.BUILT),
        imports=add_up(_size(entry, cost) for entry, cost in pairs if entry.source is not Source.STORAGE),
    )


def _size(entry: PlannedLayer, cost: Cost) -> int | None:
    known = entry.unpacked or cost.build or 0
    return known or (None if entry.spec.kind in _OPEN else _SMALLEST)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="nox -s graph --")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="a stage, with all it is made of; all unless said")
    parser.add_argument("--shared", action="store_true", help="ask the shared cache of the settings, by network")
    parser.add_argument("--cache", default="", metavar="REPOSITORY", help="ask this shared cache, by network")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--svg", type=Path, metavar="FILE", help="write a picture")
    how.add_argument("--mermaid", action="store_true", help="print a Mermaid flowchart")
    how.add_argument("--json", action="store_true", help="print what the picture shows as JSON")
    return parser.parse_args(list(arguments))
