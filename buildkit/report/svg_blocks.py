"""Where things lie in a drawing: blocks whose areas are bytes, lanes for lines, text cut to a width. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NARROW = frozenset("ijlI.,:;'|!` ")
_SLIM = frozenset('frt()[]/-"*')
_WIDE = frozenset("mwMW@%→…—")
_ASIAN = 0x1100  # from here on letters may be as wide as they are high


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """A rectangle in pixels; ``x`` and ``y`` are of its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How blocks are drawn: the height of a full row, the least area, and the area of what has no known size."""

    height: float
    least: float
    unknown: float

    def areas(self, sizes: Sequence[float | None], scale: float) -> list[float]:
        """The areas of bytes, at this area a byte."""
        return [self.unknown if size is None else max(self.least, size * scale) for size in sizes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A line from one row to a lower one, in a lane; lane 0 is next to the rows."""

    upper: int
    lower: int
    lane: int


def find_scale(groups: Sequence[Sequence[float | None]], room: float, rule: Rule) -> float:
    """The area of a byte with which the blocks of every group, side by side, come as near to ``room`` as they can.

    Groups are of bytes; None stands for a block whose bytes are not known.
    """
    most = max((sum(size or 0 for size in group) for group in groups), default=0)
    low, high = 0.0, room * rule.height / max(most, 1)
    for _ in range(40):  # blocks grow with the scale, so halving finds it
        middle = (low + high) / 2
        fits = all(breadth(pack(rule.areas(group, middle), rule)) <= room for group in groups)
        low, high = (middle, high) if fits else (low, middle)
    return low


def pack(areas: Sequence[float], rule: Rule) -> list[Rect]:
    """Blocks of these areas, in columns from left to right, in their order.

    A block joins the column before it if that makes the blocks more like squares: large ones stand alone, small
    ones lie upon one another (an ordered treemap by strips: Bederson, Shneiderman and Wattenberg 2002). Groups that
    are small as a whole are squares themselves, lower than a full row.
    """
    side = rule.least**0.5
    height = min(rule.height, max(side, sum(areas) ** 0.5))
    columns: list[list[float]] = []
    for area in areas:
        joined = [*columns[-1], area] if columns else []
        if joined and _thinnest(joined, height) > side / 2 and _slant(joined, height) <= _slant(columns[-1], height):
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


def breadth(blocks: Sequence[Rect]) -> float:
    """How wide blocks lie."""
    return max((block.x + block.width for block in blocks), default=0.0)


def depth(blocks: Sequence[Rect]) -> float:
    """How deep blocks reach."""
    return max((block.y + block.height for block in blocks), default=0.0)


def find_lanes(spans: Sequence[tuple[int, int]]) -> list[Span]:
    """A lane for each pair of rows, so that no two lines run over one another; short lines lie next to the rows."""
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
    """About how wide a sans-serif font of ``size`` sets a text, in pixels; rather more than less."""
    return size * sum(_em(letter) for letter in text)


def clip(text: str, room: float, size: float) -> str:
    """The text, or as much of it as there is room for, and ``…``; empty where there is none."""
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
    """Words on lines of this width, at most so many; the last one is cut where there is more."""
    lines: list[str] = []
    for word in words:
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and (len(lines) == most or text_width(joined, size) <= room):
            lines[-1] = joined
        else:
            lines.append(word)
    return [clip(line, room, size) for line in lines]


def _thinnest(column: Sequence[float], height: float) -> float:
    return height * min(column) / sum(column)


def _slant(column: Sequence[float], height: float) -> float:
    """How far the blocks of a column are from squares, on average."""
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
