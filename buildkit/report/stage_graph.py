"""The picture of stages as a value: every layer once, in the stage that adds it. Pure.

``graph_svg``, ``graph_mermaid`` and ``graph_tree`` (for a terminal) draw it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from buildkit.plan.plan import LayerSource
from buildkit.report.text import format_bytes, sanitize

SOURCE_LABELS = {
    LayerSource.BUILT: "to be built",
    LayerSource.SHARED: "in the remote cache",
    LayerSource.CACHE: "in the cache",
    LayerSource.STORAGE: "in local storage",
}
_UNFIT = re.compile(
    "[\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]"
)  # not allowed in XML, or reverse the text direction


class EdgeKind(StrEnum):
    """The reason to draw a stage below another: it is built ``from`` it, or includes it."""

    FROM = "from"
    INCLUDE = "include"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The stage that another is built from or includes."""

    kind: EdgeKind
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphLayer:
    """A layer; ``bytes`` is the size of its tar: an estimate if it is to be built, None if unknown.

    ``images`` are the stages of the picture whose images contain it; empty if it only helps to build them.
    """

    name: str
    kind: str
    key: str
    source: LayerSource
    bytes: int | None
    why: str = ""
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTotal:
    """A number of layers and their bytes; the size of ``unknown`` layers is not known."""

    count: int
    bytes: int
    unknown: int = 0

    def __str__(self) -> str:
        if self.count and self.unknown == self.count:
            return "size not known"
        return f"at least {format_bytes(self.bytes)}" if self.unknown else format_bytes(self.bytes)

    @property
    def known(self) -> int | None:
        """The bytes, or None if the size of a layer is not known."""
        return None if self.unknown else self.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTotals:
    """Totals of an image: all layers, layers to be built, and layers to be delivered.

    Those are imported into local storage, or unpacked into the image store (``unpacks``).
    """

    whole: LayerTotal
    build: LayerTotal
    imports: LayerTotal
    unpacks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageNode:
    """A stage with the layers that it adds, lowest first; ``image`` is None for a stage that was not requested."""

    name: str
    summary: str = ""
    ships: bool = False
    edges: tuple[Edge, ...] = ()
    layers: tuple[GraphLayer, ...] = ()
    image: ImageTotals | None = None

    @property
    def helps(self) -> bool:
        """Whether the stage is drawn only because its layers help to build those of others."""
        return bool(self.layers) and not any(layer.images for layer in self.layers)

    def label(self, layer: GraphLayer) -> str:
        """Return the name of a layer without the name of the stage."""
        return format_name(layer.name.removeprefix(f"{self.name}/"))

    def related(self, kind: EdgeKind) -> tuple[str, ...]:
        """Return the stages that this one is built from, or includes."""
        return tuple(edge.stage for edge in self.edges if edge.kind is kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Stages of a project, each after the stages that it is made of."""

    project: str
    stages: tuple[StageNode, ...]

    @property
    def layers(self) -> tuple[GraphLayer, ...]:
        """Every layer once."""
        return tuple(layer for node in self.stages for layer in node.layers)

    def as_json(self) -> dict[str, Any]:
        """Return ``{"project", "stages": […]}``, as docs/graph.md describes it."""
        return {"project": self.project, "stages": [_node_json(node) for node in self.stages]}


def sum_sizes(sizes: Iterable[int | None]) -> LayerTotal:
    """Return the total of the sizes of layers."""
    listed = list(sizes)
    return LayerTotal(count=len(listed), bytes=sum(size or 0 for size in listed), unknown=listed.count(None))


def sum_layers(layers: Iterable[GraphLayer]) -> LayerTotal:
    """Return the total of layers."""
    return sum_sizes(layer.bytes for layer in layers)


def format_layer_count(count: int) -> str:
    """Return ``1 layer`` or ``12 layers``."""
    return f"{count} layer" if count == 1 else f"{count} layers"


def format_name(text: str) -> str:
    """Return foreign text on one line, without characters that XML forbids or that reverse the text direction."""
    return " ".join(_UNFIT.sub("�", sanitize(text)).split())


def format_layer(layer: GraphLayer) -> str:
    """Return a layer on a few lines: name, kind and size, source and reason."""
    size = str(sum_layers([layer]))
    expected = " expected" if layer.source is LayerSource.BUILT and layer.bytes is not None else ""
    lines = [format_name(layer.name), f"{layer.kind}, {size}{expected}", format_source(layer)]
    if layer.images:
        lines.append("part of " + ", ".join(map(format_name, layer.images)))
    return "\n".join(lines)


def format_source(layer: GraphLayer) -> str:
    """Return ``in the cache`` or ``to be built: main.py changed``."""
    return SOURCE_LABELS[layer.source] + (f": {format_name(layer.why)}" if layer.why else "")


def format_summary(picture: Picture) -> str:
    """Return ``8 stages, 44 layers, 493 MB``."""
    stages = len(picture.stages)
    layers = picture.layers
    return f"{stages} stage{'s' * (stages != 1)}, {format_layer_count(len(layers))}, {sum_layers(layers)}"


def format_pending(picture: Picture) -> str:
    """Return ``1 layer to be built (73.2 kB)`` or ``nothing to be built``."""
    missing = [layer for layer in picture.layers if layer.source is LayerSource.BUILT]
    return (
        f"{format_layer_count(len(missing))} to be built ({sum_layers(missing)})" if missing else "nothing to be built"
    )


def format_edges(node: StageNode) -> tuple[str, ...]:
    """Return ``from base`` and ``includes wheels, models``, as far as they apply."""
    words = {EdgeKind.FROM: "from", EdgeKind.INCLUDE: "includes"}
    related = ((word, node.related(kind)) for kind, word in words.items())
    return tuple(f"{word} {', '.join(map(format_name, names))}" for word, names in related if names)


def format_image(image: ImageTotals) -> str:
    """Return ``20 layers, 293 MB``."""
    return f"{format_layer_count(image.whole.count)}, {image.whole}"


def format_work(node: StageNode) -> str:
    """Return the work for the image of a stage beyond building the stage's own layers; empty if there is none."""
    if node.image is None:
        return ""
    build, imports = node.image.build, node.image.imports
    deliver = "unpack" if node.image.unpacks else "import"
    own = sum(layer.source is LayerSource.BUILT for layer in node.layers)
    if build.count == imports.count:
        return "" if own == build.count else f"{format_layer_count(build.count)} to build and {deliver} ({build})"
    works = ((build, "to build"), (imports, f"to {deliver}"))
    return ", ".join(f"{format_layer_count(work.count)} {what} ({work})" for work, what in works[own == build.count :])


def format_reasons(node: StageNode, most: int) -> list[tuple[str, tuple[GraphLayer, ...]]]:
    """Return at most ``most`` lines, one per reason to build layers, each with its layers."""
    groups: dict[str, list[GraphLayer]] = {}
    for layer in node.layers:
        if layer.source is LayerSource.BUILT:
            groups.setdefault(format_name(layer.why) or SOURCE_LABELS[LayerSource.BUILT], []).append(layer)
    reasons = list(groups.items())
    shown = reasons if len(reasons) <= most else reasons[: most - 1]
    lines = []
    for why, layers in shown:
        name = node.label(layers[0]) if len(layers) == 1 else format_layer_count(len(layers))
        lines.append((f"{name}, {sum_layers(layers)}: {why}", tuple(layers)))
    rest = [layer for _, layers in reasons[len(shown) :] for layer in layers]
    if rest:
        others = f"for {len(reasons) - len(shown)} other reasons"
        lines.append((f"{format_layer_count(len(rest))} more, {sum_layers(rest)}, {others}", tuple(rest)))
    return lines


def select_layers(layers: Sequence[GraphLayer], most: int) -> tuple[list[GraphLayer], list[list[GraphLayer]]]:
    """Return the layers to show individually, in their order, and the others grouped by source.

    Layers to be built have priority, then the largest. About ``most`` are shown: no group has a single layer.
    """

    def weight(layer: GraphLayer) -> tuple[bool, int]:
        return layer.source is LayerSource.BUILT, 1 << 62 if layer.bytes is None else layer.bytes

    kept = sorted(layers, key=weight, reverse=True)[:most]
    rest = {source: [x for x in layers if x.source is source and x not in kept] for source in SOURCE_LABELS}
    alone = [group[0] for group in rest.values() if len(group) == 1]
    shown = [layer for layer in layers if layer in kept or layer in alone]
    return shown, [group for group in rest.values() if len(group) > 1]


def _node_json(node: StageNode) -> dict[str, Any]:
    image = node.image
    return {
        "name": node.name,
        "summary": node.summary,
        "ships": node.ships,
        "edges": [{"tie": str(edge.kind), "stage": edge.stage} for edge in node.edges],
        "image": None
        if image is None
        else {
            "layers": image.whole.count,
            "bytes": image.whole.known,
            "build": image.build.known,
            "import": image.imports.known,
        },
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "key": layer.key,
                "source": str(layer.source),
                "bytes": layer.bytes,
                "why": layer.why,
                "images": list(layer.images),
            }
            for layer in node.layers
        ],
    }
