"""Parts of a drawing: blocks with areas for bytes, lanes for lines, text clipped to a width. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_NARROW = frozenset("ijlI.,:;'|!` ")
_SLIM = frozenset('frt()[]/-"*')
_WIDE = frozenset("mwMW@%→…—")
_ASIAN = 0x1100  # from here on, letters may be as wide as high


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """A rectangle in pixels; ``x`` and ``y`` are its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRule:
    """The dimensions of blocks: the height of a full row, the smallest area, and the area for an unknown size."""

    height: float
    least: float
    unknown: float

    def areas(self, sizes: Sequence[float | None], scale: float) -> list[float]:
        """Return the areas of blocks; ``scale`` is the area of a byte."""
        return [self.unknown if size is None else max(self.least, size * scale) for size in sizes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A line from a row to a lower one, in a lane; lane 0 is next to the rows."""

    upper: int
    lower: int
    lane: int


def find_scale(groups: Sequence[Sequence[float | None]], room: float, rule: BlockRule) -> float:
    """Return the largest area of a byte for which the blocks of every group still fit into the width ``room``.

    Groups hold bytes; None stands for an unknown size.
    """
    most = max((sum(size or 0 for size in group) for group in groups), default=0)
    low, high = 0.0, room * rule.height / max(most, 1)
    for _ in range(40):  # widths grow with the scale: bisection
        middle = (low + high) / 2
        fits = all(find_right_edge(pack(rule.areas(group, middle), rule)) <= room for group in groups)
        low, high = (middle, high) if fits else (low, middle)
    return low


def pack(areas: Sequence[float], rule: BlockRule) -> list[Rect]:
    """Place blocks of these areas in columns from left to right, in their order.

    A block joins the previous column if that makes the blocks squarer: large blocks stand alone, small ones are
    stacked (an ordered strip treemap: Bederson, Shneiderman and Wattenberg 2002). A group with a small total is a
    square, lower than a full row.
    """
    side = rule.least**0.5
    height = min(rule.height, max(side, sum(areas) ** 0.5))
    columns: list[list[float]] = []
    for area in areas:
        joined = [*columns[-1], area] if columns else []
        if (
            joined
            and _min_height(joined, height) > side / 2
            and _aspect_ratio(joined, height) <= _aspect_ratio(columns[-1], height)
        ):
            columns[-1].append(area)
        else:
            columns.append([area])
    placed: list[Rect] = []
    x = 0.0
    for column in columns:
        width, y = max(sum(column) / height, side), 0.0
        for area in column:
            placed.append(Rect(x=x, y=y, width=width, height=area / width))
            y += area / width
        x += width
    return placed


def find_right_edge(blocks: Sequence[Rect]) -> float:
    """Return the right edge of the rightmost block."""
    return max((block.x + block.width for block in blocks), default=0.0)


def find_bottom(blocks: Sequence[Rect]) -> float:
    """Return the bottom of the lowest block."""
    return max((block.y + block.height for block in blocks), default=0.0)


def find_lanes(spans: Sequence[tuple[int, int]]) -> list[Span]:
    """Assign a lane to each pair of rows, so that no two lines overlap; short lines lie next to the rows."""
    taken: list[list[tuple[int, int]]] = []
    lanes: dict[int, int] = {}
    for index in sorted(range(len(spans)), key=lambda index: (spans[index][1] - spans[index][0], index)):
        upper, lower = spans[index]
        free = (n for n, lane in enumerate(taken) if all(lower < a or b < upper for a, b in lane))
        number = next(free, len(taken))
        if number == len(taken):
            taken.append([])
        taken[number].append((upper, lower))
        lanes[index] = number
    return [Span(upper=a, lower=b, lane=lanes[index]) for index, (a, b) in enumerate(spans)]


def text_width(text: str, size: float) -> float:
    """Estimate the width of a text in a sans-serif font of ``size``, in pixels; rather too large than too small."""
    return size * sum(_em(letter) for letter in text)


def clip(text: str, room: float, size: float) -> str:
    """Return the text, or as much of it as fits with ``…``; empty if nothing fits."""
    if text_width(text, size) <= room:
        return text
    width = text_width("…", size)
    kept = 0
    for letter in text:
        width += size * _em(letter)
        if width > room:
            break
        kept += 1
    return f"{text[:kept].rstrip()}…" if kept else ""


def wrap(words: Sequence[str], room: float, size: float, most: int) -> list[str]:
    """Wrap words into at most ``most`` lines of this width; the last line is clipped."""
    lines: list[str] = []
    for word in words:
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and (len(lines) == most or text_width(joined, size) <= room):
            lines[-1] = joined
        else:
            lines.append(word)
    return [clip(line, room, size) for line in lines]


def svg_text(x: float, y: float, text: str, kind: str) -> str:
    """Return a text element whose baseline begins at a point; ``kind`` is its class."""
    return f'<text class="{kind}" x="{px(x)}" y="{px(y)}">{escape(text)}</text>'


def px(value: float) -> str:
    """Return a number of pixels with at most one decimal."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def _min_height(column: Sequence[float], height: float) -> float:
    return height * min(column) / sum(column)


def _aspect_ratio(column: Sequence[float], height: float) -> float:
    """Return the average aspect ratio of the blocks of a column; 1 for squares."""
    width = sum(column) / height
    ratios = [width / (area / width) for area in column]
    return sum(max(ratio, 1 / ratio) for ratio in ratios) / len(ratios)


def _em(letter: str) -> float:
    if letter in _NARROW:
        return 0.32
    if letter in _SLIM:
        return 0.41
    if letter in _WIDE or ord(letter) >= _ASIAN:
        return 1.0
    return 0.69 if letter.isupper() else 0.62
