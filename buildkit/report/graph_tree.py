"""Render a picture of stages as a tree for a terminal: stages, layers, bars for bytes, and sources. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from buildkit.plan.plan import LayerSource
from buildkit.report.stage_graph import (
    SOURCE_LABELS,
    GraphLayer,
    Picture,
    StageNode,
    format_edges,
    format_image,
    format_layer_count,
    format_name,
    format_pending,
    format_source,
    format_summary,
    format_work,
    select_layers,
    sum_layers,
)

Line = list[tuple[str, str]]  # texts, each with a style of rich; empty for no style

_SHOWN = 12
_BAR = 24
_LONGEST = 32
_EIGHTHS = " ▏▎▍▌▋▊▉"
_STYLES = {
    LayerSource.BUILT: "bold yellow",
    LayerSource.SHARED: "green",
    LayerSource.CACHE: "cyan",
    LayerSource.STORAGE: "",
}


def render_tree(picture: Picture) -> list[Line]:
    """Return lines of styled text. The length of a bar is the size; bars of layers to be built are dotted."""
    rows = [row for node in picture.stages for row in _rows(node)]
    width = min(_LONGEST, max((len(label) for label, _ in rows), default=0))
    most = max((sum_layers(layers).bytes for _, layers in rows), default=0)
    lines: list[Line] = [
        [(format_name(picture.project), "bold"), (f": {format_summary(picture)}; {format_pending(picture)}", "")]
    ]
    for node in picture.stages:
        lines += [[], *_stage(node, width, max(most, 1))]
    return lines


def _stage(node: StageNode, width: int, most: int) -> Iterator[Line]:
    facts = ["ships"] if node.ships else []
    facts += [*format_edges(node), *([f"image of {format_image(node.image)}"] if node.image else [])]
    facts += ["only helps to build"] if node.helps else []
    yield [(format_name(node.name), "bold"), (f"  {'; '.join(facts)}" if facts else "", "dim")]
    rows = _rows(node)
    for number, (label, layers) in enumerate(rows):
        total, style = sum_layers(layers), _STYLES[layers[0].source]
        name = label if len(label) <= width else f"{label[: width - 1]}…"
        size = "?" if total.count == total.unknown else str(total)
        yield [
            ("└─ " if number == len(rows) - 1 else "├─ ", "dim"),
            (f"{name:<{width}}  {size:>8}  ", ""),
            (_bar(layers, most), style),
            (format_source(layers[0]) if len(layers) == 1 else SOURCE_LABELS[layers[0].source], style),
        ]
    if not rows:
        yield [("└─ ", "dim"), ("no layers of its own", "")]
    if format_work(node):
        yield [(f"   this image: {format_work(node)}", "dim")]


def _rows(node: StageNode) -> list[tuple[str, list[GraphLayer]]]:
    shown, rest = select_layers(node.layers, _SHOWN)
    return [(node.label(layer), [layer]) for layer in shown] + [
        (f"{format_layer_count(len(some))} more", some) for some in rest
    ]


def _bar(layers: Sequence[GraphLayer], most: int) -> str:
    """Return the bar for the total of layers, padded; dotted for layers to be built."""
    if sum_layers(layers).unknown:
        return " " * (_BAR + 2)
    eighths = max(1, round(sum_layers(layers).bytes * _BAR * 8 / most))
    solid = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    bar = "▒" * max(1, eighths // 8) if layers[0].source is LayerSource.BUILT else solid
    return f"{bar:<{_BAR + 2}}"
