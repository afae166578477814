"""Render a picture of stages as a Mermaid flowchart, which many forges draw in Markdown. Pure.

Mermaid cannot scale nodes, so labels name the bytes; each stage shows its layers to be built first, then the largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from buildkit.plan.plan import LayerSource
from buildkit.report.stage_graph import (
    SOURCE_LABELS,
    EdgeKind,
    GraphLayer,
    Picture,
    StageNode,
    format_layer_count,
    format_name,
    format_pending,
    format_source,
    format_summary,
    select_layers,
    sum_layers,
)

_SHOWN = 4
_LONG = 60
_ARROWS = {EdgeKind.FROM: "-->", EdgeKind.INCLUDE: "-.->"}
_CLASSES = {
    LayerSource.BUILT: "fill:#ffb877,stroke:#bc4c00,stroke-width:2px,stroke-dasharray:5 3,color:#1f2328",
    LayerSource.SHARED: "fill:#8fd0b5,stroke:#3a7d63,color:#1f2328",
    LayerSource.CACHE: "fill:#b3d4f0,stroke:#4a7ba6,color:#1f2328",
    LayerSource.STORAGE: "fill:#e4e9ee,stroke:#7d8590,color:#1f2328",
}


def render_mermaid(picture: Picture) -> str:
    """Return the text of a flowchart, to be put between ```` ```mermaid ```` and ```` ``` ````."""
    names = {node.name: f"s{number}" for number, node in enumerate(picture.stages)}
    lines = [
        "flowchart LR",
        f"accTitle: Stages and layers of {_plain(picture.project)}",
        f"accDescr: {format_summary(picture)}, {format_pending(picture)}",
    ]
    for node in picture.stages:
        lines += _stage(node, names[node.name])
    for node in picture.stages:
        lines += [f"{names[edge.stage]} {_ARROWS[edge.kind]} {names[node.name]}" for edge in node.edges]
    lines += [f"classDef {source} {look}" for source, look in _CLASSES.items()]
    stages = ",".join(names[node.name] for node in picture.stages if node.layers)
    lines += ["classDef stage fill:none,stroke:#7d8590", *([f"class {stages} stage"] if stages else [])]
    return "\n".join(lines) + "\n"


def _stage(node: StageNode, name: str) -> Iterator[str]:
    if not node.layers:
        yield f'{name}["{_label([node.name, "no layers of its own"])}"]'
        return
    yield f'subgraph {name}["{_label([f"{node.name}: {sum_layers(node.layers)}"])}"]'
    yield "  direction LR"  # stacks nodes without links
    shown, rest = select_layers(node.layers, _SHOWN)
    for number, layer in enumerate(shown):
        lines = [f"{node.label(layer)}, {sum_layers([layer])}", format_source(layer)]
        yield f'  {name}l{number}["{_label(lines)}"]:::{layer.source}'
    for layers in rest:
        source = layers[0].source
        yield f'  {name}{source}["{_label(_more(layers))}"]:::{source}'
    yield "end"


def _more(layers: Sequence[GraphLayer]) -> list[str]:
    return [f"{format_layer_count(len(layers))} more, {sum_layers(layers)}", SOURCE_LABELS[layers[0].source]]


def _label(lines: Sequence[str]) -> str:
    return "<br/>".join(_escape(format_name(line)) for line in lines)


def _escape(text: str) -> str:
    """Escape text for a quoted label: Mermaid reads ``#34;`` as that character, and interprets HTML and Markdown."""
    cut = text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
    return "".join(letter if letter.isalnum() or letter in " .,:/()→…-" else f"#{ord(letter)};" for letter in cut)


def _plain(text: str) -> str:
    """Reduce text to what is safe outside of a label, where nothing can be escaped."""
    return "".join(letter if letter.isalnum() or letter in " .-_" else " " for letter in format_name(text))
