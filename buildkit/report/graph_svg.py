"""A picture of stages as SVG: a row for each stage, a block for each layer, whose area is its bytes. Pure.

It needs no font, script or file from elsewhere, and is legible on light and on dark pages: it brings its own ground
and follows ``prefers-color-scheme``. What colours say, patterns and words say, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from buildkit.report.graph_style import DEFS, style
from buildkit.report.stage_graph import (
    PLACES,
    Box,
    Layer,
    Picture,
    Tie,
    say_head,
    say_image,
    say_layer,
    say_layers,
    say_name,
    say_state,
    say_ties,
    say_why,
    say_work,
    sum_layers,
)
from buildkit.report.svg_blocks import (
    Rect,
    Rule,
    Span,
    clip,
    depth,
    find_lanes,
    find_scale,
    pack,
    text_width,
    wrap,
)
from buildkit.report.text import format_bytes

WIDTH = 800
_EDGE = 20  # between the frame and what is in it
_NAMES = 164  # for a stage's name and what it is made of
_RULE = Rule(height=52.0, least=64.0, unknown=60 * 52.0)  # the smallest block is 8 by 8
_LINE = 15
_TEXT = 11.0
_HEAD = 104
_REASONS = 3
_UNKNOWN = 1 << 62  # more bytes than there are


def render_svg(picture: Picture) -> str:
    """The picture as an SVG document of 800 pixels' width; the same text for the same picture."""
    page = _lay_out(picture)
    parts = [_opening(picture, page.height), *_head(picture, page.scale)]
    for row in page.rows:
        parts += _row(row, page)
    return "\n".join([*parts, *_lines(page), "</svg>", ""])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A stage's row: where it begins, its blocks, and its lines of text, each with its class."""

    box: Box
    top: float
    blocks: tuple[tuple[Layer, Rect], ...]
    facts: tuple[tuple[str, str], ...]  # below its name
    notes: tuple[tuple[str, str], ...]  # below its blocks
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """Where everything lies: ``left`` is where names begin, ``lane`` the width of one, ``scale`` the area of a byte."""

    rows: tuple[_Row, ...]
    spans: tuple[tuple[Span, Tie], ...]
    left: float
    lane: float
    scale: float
    height: float

    @property
    def blocks(self) -> float:
        """Where blocks begin."""
        return self.left + _NAMES


def _lay_out(picture: Picture) -> _Page:
    places = {box.name: number for number, box in enumerate(picture.containers)}
    edges = [(places[edge.stage], places[box.name], edge.tie) for box in picture.containers for edge in box.edges]
    trunks: dict[int, int] = {}
    for upper, lower, _ in edges:
        trunks[upper] = max(lower, trunks.get(upper, 0))
    lanes = {span.upper: span.lane for span in find_lanes(sorted(trunks.items()))}
    count = max(lanes.values(), default=-1) + 1
    lane = min(11.0, 110 / max(count, 1))
    left = _EDGE + lane * count + (12 if count else 0)
    room = WIDTH - _EDGE - left - _NAMES
    scale = find_scale([[layer.bytes for layer in box.layers] for box in picture.containers], room, _RULE)
    rows: list[_Row] = []
    top = float(_HEAD)
    for box in picture.containers:
        rows.append(_lay_row(box, top, scale, room))
        top += rows[-1].height
    spans = tuple((Span(upper=upper, lower=lower, lane=lanes[upper]), tie) for upper, lower, tie in edges)
    return _Page(rows=tuple(rows), spans=spans, left=left, lane=lane, scale=scale, height=top + 2)


def _lay_row(box: Box, top: float, scale: float, room: float) -> _Row:
    rects = pack(_RULE.areas([layer.bytes for layer in box.layers], scale), _RULE)
    blocks = tuple(zip(box.layers, rects, strict=True))
    facts = [(clip(say_image(box.image), _NAMES - 10, _TEXT), "plain")] if box.image else []
    facts += [(line, "quiet") for tie in say_ties(box) for line in wrap(tie.split(" "), _NAMES - 12, _TEXT, 2)]
    notes = tuple((clip(text, room - 13, _TEXT), kind) for text, kind in _notes(box, blocks, room))
    return _Row(
        box=box,
        top=top,
        blocks=blocks,
        facts=tuple(facts),
        notes=notes,
        height=max(depth(rects) + _LINE * len(notes), 12 + _LINE * len(facts)) + 26,
    )


def _notes(box: Box, blocks: Sequence[tuple[Layer, Rect]], room: float) -> Iterator[tuple[str, str]]:
    """Lines below the blocks: what has no label, what is to be built and why, and the image's work."""
    reasons = say_why(box, _REASONS)
    named = [layers[0] for _, layers in reasons if len(layers) == 1]
    silent = [layer for layer, rect in blocks if layer not in named and not _labels(box, layer, rect)]
    if silent:
        yield _enumerate(box, silent, "" if len(silent) == len(blocks) else "and ", room), "quiet"
    if not blocks:
        yield "no layers of its own", "quiet"
    for line, _ in reasons:
        yield line, "built"
    if say_work(box):
        yield f"this image: {say_work(box)}", "quiet"
    if box.helps:
        yield "only helps to build: no part of these images", "quiet"


def _enumerate(box: Box, layers: Sequence[Layer], start: str, room: float) -> str:
    """``and soundfile 3.9 MB, bin-6 3.1 MB, 5 more, 4.1 MB``, the largest first, as many as there is room for."""
    ordered = sorted(layers, key=lambda layer: -_UNKNOWN if layer.bytes is None else -layer.bytes)
    for count in range(len(ordered), 0, -1):
        named = [f"{box.label(layer)} {sum_layers([layer])}" for layer in ordered[:count]]
        rest = ordered[count:]
        text = start + ", ".join([*named, *([f"{len(rest)} more, {sum_layers(rest)}"] if rest else [])])
        if text_width(text, _TEXT) <= room - 13:
            return text
    return f"{start}{say_layers(len(layers))}, {sum_layers(layers)}"


# how it looks


def _opening(picture: Picture, height: float) -> str:
    lines = [f"{say_head(picture)}; {say_state(picture)}."]
    for box in picture.containers:
        ties = f" ({', '.join(say_ties(box))})" if box.edges else ""
        lines.append(f"{say_name(box.name)}{ties}: {say_layers(len(box.layers))}, {sum_layers(box.layers)}.")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{_n(height)}" '
        f'viewBox="0 0 {WIDTH} {_n(height)}" role="img" aria-labelledby="bk-title bk-desc">\n'
        f'<title id="bk-title">Stages and layers of {escape(say_name(picture.project))}</title>\n'
        f'<desc id="bk-desc">{escape(chr(10).join(lines))}</desc>\n'
        f"<style>{style()}</style>\n{DEFS}\n"
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{_n(height - 1)}" rx="8"/>'
    )


def _head(picture: Picture, scale: float) -> Iterator[str]:
    """The project, the sums, what colours and areas mean."""
    yield _text(_EDGE, 34, clip(say_name(picture.project), 500, 20.0), "title")
    yield _text(_EDGE, 54, f"{say_head(picture)}; {say_state(picture)}", "plain")
    x = float(_EDGE)
    for source, words in PLACES.items():
        layers = [layer for layer in picture.layers if layer.source is source]
        text = f"{words}: {sum_layers(layers)}" if layers else words
        yield f'<rect class="block" fill="url(#bk-{source})" x="{_n(x)}" y="68" width="14" height="14" rx="2"/>'
        yield _text(x + 20, 79, text, "plain" if layers else "quiet")
        x += 20 + text_width(text, _TEXT) + 16
    side, size = _measure(scale)
    if size:
        x, y = WIDTH - _EDGE - side - 0.5, 56 - side
        yield f'<rect class="measure" x="{_n(x)}" y="{_n(y)}" width="{_n(side)}" height="{_n(side)}"/>'
        yield _text(x - 6, 54, f"this area is {size}", "quiet end")


def _measure(scale: float) -> tuple[float, str]:
    """A square to measure by: its side in pixels, and the round number of bytes that its area is."""
    for exponent in range(14):
        for digit in (1, 2, 5):
            side = (digit * 10**exponent * scale) ** 0.5
            if 14 <= side <= 34:
                return side, format_bytes(digit * 10**exponent).replace(".0", "")
    return 0.0, ""


def _row(row: _Row, page: _Page) -> Iterator[str]:
    box, left, y = row.box, page.left, row.top
    start = left if box is not page.rows[0].box else _EDGE
    yield f'<path class="rule" d="M{_n(start)} {_n(y - 10)}H{WIDTH - _EDGE}"/>'
    yield f"<g><title>{escape(say_name(box.name))}: {escape(say_name(box.summary))}</title>"
    name = clip(say_name(box.name), _NAMES - (52 if box.ships else 12), 14.0)
    ships = '<tspan class="quiet" dx="7">ships</tspan>' if box.ships else ""
    yield f'<text x="{_n(left)}" y="{_n(y + 12)}"><tspan class="name">{escape(name)}</tspan>{ships}</text>'
    for number, (line, kind) in enumerate(row.facts):
        yield _text(left, y + 28 + _LINE * number, line, kind)
    yield "</g>"
    for layer, rect in row.blocks:
        yield from _block(box, layer, rect, page.blocks, y)
    base = y + depth([rect for _, rect in row.blocks]) - (0 if row.blocks else 3)
    for text, kind in row.notes:
        base += _LINE
        if kind == "built":
            yield f'<path class="mark" d="M{_n(page.blocks + 4)} {_n(base - 8.5)}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/>'
        yield _text(page.blocks + (13 if kind == "built" else 0), base, text, "quiet" if kind == "quiet" else "plain")


def _block(box: Box, layer: Layer, rect: Rect, left: float, top: float) -> Iterator[str]:
    x, y, width, height = left + rect.x, top + rect.y, rect.width - 1.5, rect.height - 1.5
    kind = "unknown" if layer.bytes is None else "block"
    yield (
        f'<g class="layer"><title>{escape(say_layer(layer))}</title>'
        f'<rect class="{kind}" fill="url(#bk-{layer.source})" x="{_n(x)}" y="{_n(y)}" '
        f'width="{_n(width)}" height="{_n(height)}" rx="{2 if min(width, height) > 8 else 1}"/>'
    )
    labels = _labels(box, layer, rect)
    start = y + height / 2 + (4 if len(labels) == 1 else -2.5)
    for number, text in enumerate(labels):
        yield _text(x + 5, start + 14 * number, text, "plain")
    yield "</g>"


def _labels(box: Box, layer: Layer, rect: Rect) -> tuple[str, ...]:
    """The name and size that fit into a block: two lines, one, or none."""
    name, size = box.label(layer), "size ?" if layer.bytes is None else str(sum_layers([layer]))
    room = rect.width - 10
    if rect.height >= 34 and text_width(size, _TEXT) <= room:
        shown = clip(name, room, _TEXT)
        return (shown, size) if shown == name or len(shown) > 5 else ()
    both = f"{name}  {size}"
    return (both,) if rect.height >= 16 and text_width(both, _TEXT) <= room else ()


def _lines(page: _Page) -> Iterator[str]:
    """From below the upper stage's name, down its lane, to the lower stage's name; the inmost ends uppermost."""
    for lower in sorted({span.lower for span, _ in page.spans}):
        ending = sorted((span.lane, span.upper, tie) for span, tie in page.spans if span.lower == lower)
        for number, (lane, upper, tie) in enumerate(ending):
            x, right, bend = page.left - 12 - page.lane * (lane + 0.5), page.left - 7, min(5.0, page.lane)
            start = page.rows[upper].top + 25
            end = page.rows[lower].top + 7 + min(5.0, 14 / len(ending)) * number
            path = (
                f"M{_n(right)} {_n(start)}H{_n(x + bend)}Q{_n(x)} {_n(start)} {_n(x)} {_n(start + bend)}"
                f"V{_n(end - bend)}Q{_n(x)} {_n(end)} {_n(x + bend)} {_n(end)}H{_n(right)}"
            )
            yield f'<path class="tie {tie}" d="{path}"/><circle class="dot" cx="{_n(right)}" cy="{_n(end)}" r="2.2"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{escape(text)}</text>'


def _n(value: float) -> str:
    """A number with one decimal at most."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")
