"""Render a picture of stages as SVG: one row per stage, one block per layer, areas proportional to bytes. Pure.

The SVG needs no external font, script or file. It is legible on light and dark pages: it has its own background and
follows ``prefers-color-scheme``. Patterns and texts repeat everything that colours show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from buildkit.report.graph_style import DEFS, style
from buildkit.report.stage_graph import (
    SOURCE_LABELS,
    EdgeKind,
    GraphLayer,
    Picture,
    StageNode,
    format_edges,
    format_image,
    format_layer,
    format_layer_count,
    format_name,
    format_pending,
    format_reasons,
    format_summary,
    format_work,
    sum_layers,
)
from buildkit.report.svg_blocks import (
    BlockRule,
    Rect,
    Span,
    clip,
    find_bottom,
    find_lanes,
    find_scale,
    pack,
    px,
    svg_text,
    text_width,
    wrap,
)
from buildkit.report.text import format_bytes

WIDTH = 800
_EDGE = 20  # between the frame and what is in it
_NAMES = 164  # for a stage's name and what it is made of
_RULE = BlockRule(height=52.0, least=64.0, unknown=60 * 52.0)  # the smallest block is 8 by 8
_LINE = 15
_TEXT = 11.0
_HEAD = 104
_REASONS = 3
_UNKNOWN = 1 << 62  # more bytes than there are


def render_svg(picture: Picture) -> str:
    """Return the picture as an SVG document, 800 pixels wide; equal pictures give equal text."""
    page = _lay_out(picture)
    parts = [_opening(picture, page.height), *_head(picture, page.scale)]
    for row in page.rows:
        parts += _row(row, page)
    return "\n".join([*parts, *_lines(page), "</svg>", ""])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """The row of a stage: its top, its blocks, and its lines of text, each with its CSS class."""

    node: StageNode
    top: float
    blocks: tuple[tuple[GraphLayer, Rect], ...]
    facts: tuple[tuple[str, str], ...]  # below its name
    notes: tuple[tuple[str, str], ...]  # below its blocks
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """The layout: ``left`` is the x of names, ``lane`` the width of a lane, ``scale`` the area of a byte."""

    rows: tuple[_Row, ...]
    spans: tuple[tuple[Span, EdgeKind], ...]
    left: float
    lane: float
    scale: float
    height: float

    @property
    def blocks(self) -> float:
        """The x of the first block."""
        return self.left + _NAMES


def _lay_out(picture: Picture) -> _Page:
    places = {node.name: number for number, node in enumerate(picture.stages)}
    edges = [(places[edge.stage], places[node.name], edge.kind) for node in picture.stages for edge in node.edges]
    trunks: dict[int, int] = {}
    for upper, lower, _ in edges:
        trunks[upper] = max(lower, trunks.get(upper, 0))
    lanes = {span.upper: span.lane for span in find_lanes(sorted(trunks.items()))}
    count = max(lanes.values(), default=-1) + 1
    lane = min(11.0, 110 / max(count, 1))
    left = _EDGE + lane * count + (12 if count else 0)
    room = WIDTH - _EDGE - left - _NAMES
    scale = find_scale([[layer.bytes for layer in node.layers] for node in picture.stages], room, _RULE)
    rows: list[_Row] = []
    top = float(_HEAD)
    for node in picture.stages:
        rows.append(_lay_row(node, top, scale, room))
        top += rows[-1].height
    spans = tuple((Span(upper=upper, lower=lower, lane=lanes[upper]), kind) for upper, lower, kind in edges)
    return _Page(rows=tuple(rows), spans=spans, left=left, lane=lane, scale=scale, height=top + 2)


def _lay_row(node: StageNode, top: float, scale: float, room: float) -> _Row:
    rects = pack(_RULE.areas([layer.bytes for layer in node.layers], scale), _RULE)
    blocks = tuple(zip(node.layers, rects, strict=True))
    facts = [(clip(format_image(node.image), _NAMES - 10, _TEXT), "plain")] if node.image else []
    facts += [(line, "quiet") for text in format_edges(node) for line in wrap(text.split(" "), _NAMES - 12, _TEXT, 2)]
    notes = tuple((clip(text, room - 13, _TEXT), kind) for text, kind in _notes(node, blocks, room))
    return _Row(
        node=node,
        top=top,
        blocks=blocks,
        facts=tuple(facts),
        notes=notes,
        height=max(find_bottom(rects) + _LINE * len(notes), 12 + _LINE * len(facts)) + 26,
    )


def _notes(node: StageNode, blocks: Sequence[tuple[GraphLayer, Rect]], room: float) -> Iterator[tuple[str, str]]:
    """Yield the lines below the blocks: unlabelled layers, layers to be built and why, and the work for the image."""
    reasons = format_reasons(node, _REASONS)
    named = [layers[0] for _, layers in reasons if len(layers) == 1]
    unlabelled = [layer for layer, rect in blocks if layer not in named and not _labels(node, layer, rect)]
    if unlabelled:
        yield _enumerate(node, unlabelled, "" if len(unlabelled) == len(blocks) else "and ", room), "quiet"
    if not blocks:
        yield "no layers of its own", "quiet"
    for line, _ in reasons:
        yield line, "built"
    if format_work(node):
        yield f"this image: {format_work(node)}", "quiet"
    if node.helps:
        yield "only helps to build: no part of these images", "quiet"


def _enumerate(node: StageNode, layers: Sequence[GraphLayer], start: str, room: float) -> str:
    """Return ``and soundfile 3.9 MB, bin-6 3.1 MB, 5 more, 4.1 MB``: the largest first, as many as fit."""
    ordered = sorted(layers, key=lambda layer: -_UNKNOWN if layer.bytes is None else -layer.bytes)
    for count in range(len(ordered), 0, -1):
        named = [f"{node.label(layer)} {sum_layers([layer])}" for layer in ordered[:count]]
        rest = ordered[count:]
        text = start + ", ".join([*named, *([f"{len(rest)} more, {sum_layers(rest)}"] if rest else [])])
        if text_width(text, _TEXT) <= room - 13:
            return text
    return f"{start}{format_layer_count(len(layers))}, {sum_layers(layers)}"


# drawing


def _opening(picture: Picture, height: float) -> str:
    lines = [f"{format_summary(picture)}; {format_pending(picture)}."]
    for node in picture.stages:
        ties = f" ({', '.join(format_edges(node))})" if node.edges else ""
        lines.append(
            f"{format_name(node.name)}{ties}: {format_layer_count(len(node.layers))}, {sum_layers(node.layers)}."
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{px(height)}" '
        f'viewBox="0 0 {WIDTH} {px(height)}" role="img" aria-labelledby="bk-title bk-desc">\n'
        f'<title id="bk-title">Stages and layers of {escape(format_name(picture.project))}</title>\n'
        f'<desc id="bk-desc">{escape(chr(10).join(lines))}</desc>\n'
        f"<style>{style()}</style>\n{DEFS}\n"
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{px(height - 1)}" rx="8"/>'
    )


def _head(picture: Picture, scale: float) -> Iterator[str]:
    """Yield the head: project, totals, and the legend of colours and areas."""
    yield svg_text(_EDGE, 34, clip(format_name(picture.project), 500, 20.0), "title")
    yield svg_text(_EDGE, 54, f"{format_summary(picture)}; {format_pending(picture)}", "plain")
    x = float(_EDGE)
    for source, words in SOURCE_LABELS.items():
        layers = [layer for layer in picture.layers if layer.source is source]
        text = f"{words}: {sum_layers(layers)}" if layers else words
        yield f'<rect class="block" fill="url(#bk-{source})" x="{px(x)}" y="68" width="14" height="14" rx="2"/>'
        yield svg_text(x + 20, 79, text, "plain" if layers else "quiet")
        x += 20 + text_width(text, _TEXT) + 16
    side, size = _measure(scale)
    if size:
        x, y = WIDTH - _EDGE - side - 0.5, 56 - side
        yield f'<rect class="measure" x="{px(x)}" y="{px(y)}" width="{px(side)}" height="{px(side)}"/>'
        yield svg_text(x - 6, 54, f"this area is {size}", "quiet end")


def _measure(scale: float) -> tuple[float, str]:
    """Return the square of the legend: its side in pixels, and the round number of bytes that its area stands for."""
    for exponent in range(14):
        for digit in (1, 2, 5):
            side = (digit * 10**exponent * scale) ** 0.5
            if 14 <= side <= 34:
                return side, format_bytes(digit * 10**exponent).replace(".0", "")
    return 0.0, ""


def _row(row: _Row, page: _Page) -> Iterator[str]:
    node, left, y = row.node, page.left, row.top
    start = left if node is not page.rows[0].node else _EDGE
    yield f'<path class="rule" d="M{px(start)} {px(y - 10)}H{WIDTH - _EDGE}"/>'
    yield f"<g><title>{escape(format_name(node.name))}: {escape(format_name(node.summary))}</title>"
    name = clip(format_name(node.name), _NAMES - (52 if node.ships else 12), 14.0)
    ships = '<tspan class="quiet" dx="7">ships</tspan>' if node.ships else ""
    yield f'<text x="{px(left)}" y="{px(y + 12)}"><tspan class="name">{escape(name)}</tspan>{ships}</text>'
    for number, (line, kind) in enumerate(row.facts):
        yield svg_text(left, y + 28 + _LINE * number, line, kind)
    yield "</g>"
    for layer, rect in row.blocks:
        yield from _block(node, layer, rect, page.blocks, y)
    base = y + find_bottom([rect for _, rect in row.blocks]) - (0 if row.blocks else 3)
    for text, kind in row.notes:
        base += _LINE
        if kind == "built":
            yield f'<path class="mark" d="M{px(page.blocks + 4)} {px(base - 8.5)}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/>'
        indent = 13 if kind == "built" else 0
        yield svg_text(page.blocks + indent, base, text, "quiet" if kind == "quiet" else "plain")


def _block(node: StageNode, layer: GraphLayer, rect: Rect, left: float, top: float) -> Iterator[str]:
    x, y, width, height = left + rect.x, top + rect.y, rect.width - 1.5, rect.height - 1.5
    kind = "unknown" if layer.bytes is None else "block"
    yield (
        f'<g class="layer"><title>{escape(format_layer(layer))}</title>'
        f'<rect class="{kind}" fill="url(#bk-{layer.source})" x="{px(x)}" y="{px(y)}" '
        f'width="{px(width)}" height="{px(height)}" rx="{2 if min(width, height) > 8 else 1}"/>'
    )
    labels = _labels(node, layer, rect)
    start = y + height / 2 + (4 if len(labels) == 1 else -2.5)
    for number, text in enumerate(labels):
        yield svg_text(x + 5, start + 14 * number, text, "plain")
    yield "</g>"


def _labels(node: StageNode, layer: GraphLayer, rect: Rect) -> tuple[str, ...]:
    """Return the name and size that fit into a block, on two lines or one; empty if they do not fit."""
    name, size = node.label(layer), "size ?" if layer.bytes is None else str(sum_layers([layer]))
    room = rect.width - 10
    if rect.height >= 34 and text_width(size, _TEXT) <= room:
        shown = clip(name, room, _TEXT)
        return (shown, size) if shown == name or len(shown) > 5 else ()
    one_line = f"{name}  {size}"
    return (one_line,) if rect.height >= 16 and text_width(one_line, _TEXT) <= room else ()


def _lines(page: _Page) -> Iterator[str]:
    """Draw a line from below the name of the upper stage, down its lane, to the name of the lower stage."""
    for lower in sorted({span.lower for span, _ in page.spans}):
        ending = sorted((span.lane, span.upper, kind) for span, kind in page.spans if span.lower == lower)
        for number, (lane, upper, kind) in enumerate(ending):
            x, right, bend = page.left - 12 - page.lane * (lane + 0.5), page.left - 7, min(5.0, page.lane)
            start = page.rows[upper].top + 25
            end = page.rows[lower].top + 7 + min(5.0, 14 / len(ending)) * number
            path = (
                f"M{px(right)} {px(start)}H{px(x + bend)}Q{px(x)} {px(start)} {px(x)} {px(start + bend)}"
                f"V{px(end - bend)}Q{px(x)} {px(end)} {px(x + bend)} {px(end)}H{px(right)}"
            )
            yield f'<path class="tie {kind}" d="{path}"/><circle class="dot" cx="{px(right)}" cy="{px(end)}" r="2.2"/>'
