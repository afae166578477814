"""A picture of stages as a tree for a terminal: stages, their layers, bars of their bytes, and where each is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from buildkit.plan.plan import LayerSource
from buildkit.report.stage_graph import (
    PLACES,
    Box,
    Layer,
    Picture,
    fold,
    say_head,
    say_image,
    say_layers,
    say_name,
    say_place,
    say_state,
    say_ties,
    say_work,
    sum_layers,
)

Line = list[tuple[str, str]]  # texts, each with a style of rich's; empty for none

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
    """Lines of styled text. Bars are as long as bytes are many; those of layers to be built look otherwise."""
    rows = [row for box in picture.containers for row in _rows(box)]
    width = min(_LONGEST, max((len(label) for label, _ in rows), default=0))
    most = max((sum_layers(layers).bytes for _, layers in rows), default=0)
    lines: list[Line] = [[(say_name(picture.project), "bold"), (f": {say_head(picture)}; {say_state(picture)}", "")]]
    for box in picture.containers:
        lines += [[], *_stage(box, width, max(most, 1))]
    return lines


def _stage(box: Box, width: int, most: int) -> Iterator[Line]:
    facts = ["ships"] if box.ships else []
    facts += [*say_ties(box), *([f"image of {say_image(box.image)}"] if box.image else [])]
    facts += ["only helps to build"] if box.helps else []
    yield [(say_name(box.name), "bold"), (f"  {'; '.join(facts)}" if facts else "", "dim")]
    rows = _rows(box)
    for number, (label, layers) in enumerate(rows):
        total, style = sum_layers(layers), _STYLES[layers[0].source]
        name = label if len(label) <= width else f"{label[: width - 1]}…"
        size = "?" if total.count == total.unknown else str(total)
        yield [
            ("└─ " if number == len(rows) - 1 else "├─ ", "dim"),
            (f"{name:<{width}}  {size:>8}  ", ""),
            (_bar(layers, most), style),
            (say_place(layers[0]) if len(layers) == 1 else PLACES[layers[0].source], style),
        ]
    if not rows:
        yield [("└─ ", "dim"), ("no layers of its own", "")]
    if say_work(box):
        yield [(f"   this image: {say_work(box)}", "dim")]


def _rows(box: Box) -> list[tuple[str, list[Layer]]]:
    shown, rest = fold(box.layers, _SHOWN)
    return [(box.label(layer), [layer]) for layer in shown] + [(f"{say_layers(len(some))} more", some) for some in rest]


def _bar(layers: Sequence[Layer], most: int) -> str:
    """A bar by the sum of some layers, with what follows it; dotted for what is to be built."""
    if sum_layers(layers).unknown:
        return " " * (_BAR + 2)
    eighths = max(1, round(sum_layers(layers).bytes * _BAR * 8 / most))
    solid = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    bar = "▒" * max(1, eighths // 8) if layers[0].source is LayerSource.BUILT else solid
    return f"{bar:<{_BAR + 2}}"
