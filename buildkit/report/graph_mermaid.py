"""A picture of stages as a Mermaid flowchart, which many forges draw where they show Markdown. Pure.

Mermaid knows no sizes, so bytes are said; each stage shows its largest layers, and those to be built first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from buildkit.plan.plan import LayerSource
from buildkit.report.stage_graph import (
    PLACES,
    Box,
    Layer,
    Picture,
    Tie,
    fold,
    say_head,
    say_layers,
    say_name,
    say_place,
    say_state,
    sum_layers,
)

_SHOWN = 4
_LONG = 60
_ARROWS = {Tie.FROM: "-->", Tie.INCLUDE: "-.->"}
_CLASSES = {
    LayerSource.BUILT: "fill:#ffb877,stroke:#bc4c00,stroke-width:2px,stroke-dasharray:5 3,color:#1f2328",
    LayerSource.SHARED: "fill:#8fd0b5,stroke:#3a7d63,color:#1f2328",
    LayerSource.CACHE: "fill:#b3d4f0,stroke:#4a7ba6,color:#1f2328",
    LayerSource.STORAGE: "fill:#e4e9ee,stroke:#7d8590,color:#1f2328",
}


def render_mermaid(picture: Picture) -> str:
    """The text of a flowchart, to be put between ```` ```mermaid ```` and ```` ``` ````."""
    names = {box.name: f"s{number}" for number, box in enumerate(picture.containers)}
    lines = [
        "flowchart LR",
        f"accTitle: Stages and layers of {_plain(picture.project)}",
        f"accDescr: {say_head(picture)}, {say_state(picture)}",
    ]
    for box in picture.containers:
        lines += _stage(box, names[box.name])
    for box in picture.containers:
        lines += [f"{names[edge.stage]} {_ARROWS[edge.tie]} {names[box.name]}" for edge in box.edges]
    lines += [f"classDef {source} {look}" for source, look in _CLASSES.items()]
    stages = ",".join(names[box.name] for box in picture.containers if box.layers)
    lines += ["classDef stage fill:none,stroke:#7d8590", *([f"class {stages} stage"] if stages else [])]
    return "\n".join(lines) + "\n"


def _stage(box: Box, name: str) -> Iterator[str]:
    if not box.layers:
        yield f'{name}["{_label([box.name, "no layers of its own"])}"]'
        return
    yield f'subgraph {name}["{_label([f"{box.name}: {sum_layers(box.layers)}"])}"]'
    yield "  direction LR"  # which lays nodes that nothing links upon one another
    shown, rest = fold(box.layers, _SHOWN)
    for number, layer in enumerate(shown):
        lines = [f"{box.label(layer)}, {sum_layers([layer])}", say_place(layer)]
        yield f'  {name}l{number}["{_label(lines)}"]:::{layer.source}'
    for layers in rest:
        source = layers[0].source
        yield f'  {name}{source}["{_label(_more(layers))}"]:::{source}'
    yield "end"


def _more(layers: Sequence[Layer]) -> list[str]:
    return [f"{say_layers(len(layers))} more, {sum_layers(layers)}", PLACES[layers[0].source]]


def _label(lines: Sequence[str]) -> str:
    return "<br/>".join(_escape(say_name(line)) for line in lines)


def _escape(text: str) -> str:
    """Text in a quoted label: Mermaid reads ``#34;`` as the character of that number, and HTML and Markdown besides."""
    cut = text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
    return "".join(letter if letter.isalnum() or letter in " .,:/()→…-" else f"#{ord(letter)};" for letter in cut)


def _plain(text: str) -> str:
    """Text outside of a label, where nothing can be escaped."""
    return "".join(letter if letter.isalnum() or letter in " .-_" else " " for letter in say_name(text))
