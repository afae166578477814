"""What a picture of stages shows, as a value: every layer once, in the stage that brings it. Pure.

It is drawn as SVG (``graphsvg``), as Mermaid (``mermaid``) and as a tree for a terminal (``tree``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from buildkit.plan.plan import LayerSource
from buildkit.report.text import clean, format_bytes

PLACES = {
    LayerSource.BUILT: "to be built",
    LayerSource.SHARED: "in the shared cache",
    LayerSource.CACHE: "in the cache",
    LayerSource.STORAGE: "in local storage",
}
_UNFIT = re.compile("[\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")  # not in XML, or turn the text around


class Tie(StrEnum):
    """Why a stage is drawn below another."""

    FROM = "from"
    INCLUDE = "include"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A stage that another is made from (``from``) or includes."""

    tie: Tie
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer; ``bytes`` are of its tar: expected ones where it is to be built, None where nobody knows.

    ``images`` are the stages of the picture whose images have it; none where it only serves to build them.
    """

    name: str
    kind: str
    key: str
    source: LayerSource
    bytes: int | None
    why: str = ""
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """A number of layers and their bytes; ``unknown`` of them have bytes that nobody knows."""

    count: int
    bytes: int
    unknown: int = 0

    def __str__(self) -> str:
        if self.count and self.unknown == self.count:
            return "size not known"
        return f"at least {format_bytes(self.bytes)}" if self.unknown else format_bytes(self.bytes)

    @property
    def known(self) -> int | None:
        """The bytes, or None where some are not known."""
        return None if self.unknown else self.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a stage's image comes to: all of its layers, those to be built, and those to be imported."""

    whole: Sum
    build: Sum
    imports: Sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A stage with the layers that it brings, lowest first; ``image`` is None for one that was not asked for."""

    name: str
    summary: str = ""
    ships: bool = False
    edges: tuple[Edge, ...] = ()
    layers: tuple[Layer, ...] = ()
    image: Image | None = None

    @property
    def helps(self) -> bool:
        """Whether it is drawn only because its layers serve to build those of others."""
        return bool(self.layers) and not any(layer.images for layer in self.layers)

    def label(self, layer: Layer) -> str:
        """The layer's name without the stage's."""
        return say_name(layer.name.removeprefix(f"{self.name}/"))

    def named(self, tie: Tie) -> tuple[str, ...]:
        """The stages that it is tied to in this way."""
        return tuple(edge.stage for edge in self.edges if edge.tie is tie)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Stages of a project, each after those that it is made of."""

    project: str
    containers: tuple[Box, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer, once."""
        return tuple(layer for box in self.containers for layer in box.layers)

    def as_json(self) -> dict[str, Any]:
        """``{"project", "stages": […]}``, as docs/graph.md describes it."""
        return {"project": self.project, "stages": [_box_json(box) for box in self.containers]}


def add_up(sizes: Iterable[int | None]) -> Sum:
    """The sum of the bytes of layers."""
    listed = list(sizes)
    return Sum(count=len(listed), bytes=sum(size or 0 for size in listed), unknown=listed.count(None))


def sum_layers(layers: Iterable[Layer]) -> Sum:
    """The sum of layers."""
    return add_up(layer.bytes for layer in layers)


def say_layers(count: int) -> str:
    """``1 layer``, ``12 layers``."""
    return f"{count} layer" if count == 1 else f"{count} layers"


def say_name(text: str) -> str:
    """Foreign text on one line, with nothing in it that XML may not hold or that turns the text around."""
    return " ".join(_UNFIT.sub("�", clean(text)).split())


def say_layer(layer: Layer) -> str:
    """All of a layer on a few lines: name, kind and size, where it comes from and why."""
    size = str(sum_layers([layer]))
    expected = " expected" if layer.source is LayerSource.BUILT and layer.bytes is not None else ""
    lines = [say_name(layer.name), f"{layer.kind}, {size}{expected}", say_place(layer)]
    if layer.images:
        lines.append("part of " + ", ".join(map(say_name, layer.images)))
    return "\n".join(lines)


def say_place(layer: Layer) -> str:
    """``in the cache``; ``to be built: main.py changed``."""
    return PLACES[layer.source] + (f": {say_name(layer.why)}" if layer.why else "")


def say_head(picture: Picture) -> str:
    """``8 stages, 44 layers, 493 MB``."""
    containers = len(picture.containers)
    layers = picture.layers
    return f"{containers} stage{'s' * (containers != 1)}, {say_layers(len(layers))}, {sum_layers(layers)}"


def say_state(picture: Picture) -> str:
    """``1 layer to be built (73.2 kB)``, or that there is nothing."""
    missing = [layer for layer in picture.layers if layer.source is LayerSource.BUILT]
    return f"{say_layers(len(missing))} to be built ({sum_layers(missing)})" if missing else "nothing to be built"


def say_ties(box: Box) -> tuple[str, ...]:
    """``from base`` and ``includes wheels, models``, where there are such."""
    words = {Tie.FROM: "from", Tie.INCLUDE: "includes"}
    return tuple(f"{word} {', '.join(map(say_name, box.named(tie)))}" for tie, word in words.items() if box.named(tie))


def say_image(image: Image) -> str:
    """``20 layers, 293 MB``."""
    return f"{say_layers(image.whole.count)}, {image.whole}"


def say_work(box: Box) -> str:
    """What building a stage's image does beside building the stage's own layers; empty for nothing."""
    if box.image is None:
        return ""
    build, imports = box.image.build, box.image.imports
    own = sum(layer.source is LayerSource.BUILT for layer in box.layers)
    if build.count == imports.count:
        return "" if own == build.count else f"{say_layers(build.count)} to build and import ({build})"
    works = ((build, "to build"), (imports, "to import"))
    return ", ".join(f"{say_layers(work.count)} {what} ({work})" for work, what in works[own == build.count :])


def say_why(box: Box, most: int) -> list[tuple[str, tuple[Layer, ...]]]:
    """Lines that say why layers are to be built, and of which they speak: one for each reason, ``most`` at most."""
    groups: dict[str, list[Layer]] = {}
    for layer in box.layers:
        if layer.source is LayerSource.BUILT:
            groups.setdefault(say_name(layer.why) or PLACES[LayerSource.BUILT], []).append(layer)
    reasons = list(groups.items())
    shown = reasons if len(reasons) <= most else reasons[: most - 1]
    lines = []
    for why, layers in shown:
        name = box.label(layers[0]) if len(layers) == 1 else say_layers(len(layers))
        lines.append((f"{name}, {sum_layers(layers)}: {why}", tuple(layers)))
    rest = [layer for _, layers in reasons[len(shown) :] for layer in layers]
    if rest:
        others = f"for {len(reasons) - len(shown)} other reasons"
        lines.append((f"{say_layers(len(rest))} more, {sum_layers(rest)}, {others}", tuple(rest)))
    return lines


def fold(layers: Sequence[Layer], most: int) -> tuple[list[Layer], list[list[Layer]]]:
    """Layers worth a line of their own, in their order, and the others by where they come from.

    Those to be built come first, then the largest; about ``most`` have a line, for nothing is folded alone.
    """

    def weight(layer: Layer) -> tuple[bool, int]:
        return layer.source is LayerSource.BUILT, 1 << 62 if layer.bytes is None else layer.bytes

    kept = sorted(layers, key=weight, reverse=True)[:most]
    rest = {source: [x for x in layers if x.source is source and x not in kept] for source in PLACES}
    alone = [group[0] for group in rest.values() if len(group) == 1]
    shown = [layer for layer in layers if layer in kept or layer in alone]
    return shown, [group for group in rest.values() if len(group) > 1]


def _box_json(box: Box) -> dict[str, Any]:
    image = box.image
    return {
        "name": box.name,
        "summary": box.summary,
        "ships": box.ships,
        "edges": [{"tie": str(edge.tie), "stage": edge.stage} for edge in box.edges],
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
            for layer in box.layers
        ],
    }
