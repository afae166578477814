"""An SVG chart of one goal: bars for every scenario, and where our own seconds went. Pure.

The scale is logarithmic, because rows range from a fifth of a second to a minute. The file needs no font, script or
other file, and is legible on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from buildkit.bench.chart_style import DEFS, OTHER, PEERS, PHASES, style
from buildkit.bench.results import Figures, Results, figure
from buildkit.bench.tables import (
    GOALS,
    format_cell,
    format_figures,
    format_meanings,
    format_ratio,
    participant_titles,
    scenario_title,
)
from buildkit.report.stage_graph import format_name
from buildkit.report.svg_blocks import clip, px, svg_text, text_width
from buildkit.report.text import format_seconds

WIDTH = 800
_EDGE = 20
_LEFT = 178  # where bars start
_RIGHT = 150  # room for the longest value
_BAR = 12
_STEP = 15
_GROUP = 13  # between scenarios
_TEXT = 11.0
_SLICE = 14  # height of a phase bar
_LINE = 19
_SMALL = 10.0  # characters that fit in it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Seconds to pixels, logarithmic: ``least`` is at the left edge, ``most`` at the right edge."""

    least: float
    most: float

    def x(self, seconds: float) -> float:
        share = math.log(max(seconds, self.least) / self.least) / math.log(self.most / self.least)
        return _LEFT + share * (WIDTH - _RIGHT - _LEFT)

    def ticks(self) -> list[float]:
        """Return 1, 2 and 5 of every power of ten, or only 1 on long scales."""
        digits = (1, 2, 5) if self.most / self.least < 150 else (1,)
        candidates = [digit * 10.0**power for power in range(-3, 5) for digit in digits]
        return [tick for tick in candidates if self.least * 1.001 < tick <= self.most]


def render_chart(results: Results, goal: str) -> str:
    """Return an SVG document 800 pixels wide. Equal results give equal text."""
    names = [scenario for until, scenario in results.rows() if until == goal]
    racing = [who for who in results.participants if any(results.of(goal, name, who) for name in names)]
    scale = _find_scale(results, goal, names, racing)
    parts: list[str] = []
    y = 88.0
    top = y
    for name in names:
        parts += _group(results, goal, name, racing, scale, y)
        y += _STEP * len(racing) + _GROUP
    grid = list(_grid(scale, top - 6, y - _GROUP + 2))
    y += 18
    phases, height = _phases(results, goal, names, y)
    whole = y + height
    head = _head(results, goal, racing)
    return "\n".join([_opening(results, goal, names, whole), *head, *grid, *parts, *phases, "</svg>", ""])


def _find_scale(results: Results, goal: str, names: list[str], racing: list[str]) -> _Scale:
    seconds = [s.seconds for name in names for who in racing for s in results.of(goal, name, who) if s.seconds > 0]
    least, most = min(seconds, default=0.1) * 0.6, max(seconds, default=10.0)
    return _Scale(least=least, most=max(most, least * 10))


def _opening(results: Results, goal: str, names: list[str], height: float) -> str:
    lines = [f"{scenario_title(name)}: {format_ratio(results, goal, name) or 'no peer'}" for name in names]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{px(height)}" '
        f'viewBox="0 0 {WIDTH} {px(height)}" role="img" aria-labelledby="bk-title bk-desc">\n'
        f'<title id="bk-title">Seconds {escape(GOALS.get(goal, goal))}</title>\n'
        f'<desc id="bk-desc">{escape(chr(10).join(lines))}</desc>\n'
        f"<style>{style()}</style>\n{DEFS}\n"
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{px(height - 1)}" rx="8"/>'
    )


def _head(results: Results, goal: str, racing: list[str]) -> Iterator[str]:
    words = GOALS.get(goal, goal)
    yield svg_text(_EDGE, 34, f"Seconds {words}", "title")
    name = format_name(str(results.workload.get("name", "")))
    count = max((sample.repetition + 1 for sample in results.samples if sample.until == goal), default=0)
    of = f"medians of {count}, least to most as a line; " if count > 1 else ""
    rest = "; ".join((f"{of}logarithmic scale", *format_meanings(racing)))
    room = WIDTH - 2 * _EDGE - text_width(f"workload ; {rest}", _TEXT)
    yield svg_text(_EDGE, 52, f"workload {clip(name, room, _TEXT)}; {rest}", "quiet")
    x, titles = float(_EDGE), participant_titles(results)
    for who in racing:
        yield f'<rect class="{_bar_class(results, who)}" x="{px(x)}" y="62" width="11" height="11" rx="2"/>'
        yield svg_text(x + 16, 71.5, titles[who], "plain")
        x += 16 + text_width(titles[who], _TEXT) + 18


def _grid(scale: _Scale, top: float, bottom: float) -> Iterator[str]:
    for tick in scale.ticks():
        x = px(scale.x(tick))
        yield f'<path class="rule" d="M{x} {px(top)}V{px(bottom)}"/>'
        yield svg_text(scale.x(tick), bottom + 12, f"{tick:g} s", "quiet middle")


def _group(results: Results, goal: str, name: str, racing: list[str], scale: _Scale, y: float) -> Iterator[str]:
    ratio = format_ratio(results, goal, name)
    yield svg_text(_LEFT - 10, y + 10, scenario_title(name), "name end")
    fits = text_width(ratio, _TEXT) <= _LEFT - 10 - _EDGE
    for line, words in enumerate([ratio] if fits else ratio.replace(" than ", "\nthan ").split("\n")):
        yield svg_text(_LEFT - 10, y + 24 + 14 * line, words, f"{'gain' if 'faster' in ratio else 'quiet'} end")
    for number, who in enumerate(racing):
        yield from _bar(results, (goal, name, who), scale, y + _STEP * number)


def _bar(results: Results, cell: tuple[str, str, str], scale: _Scale, y: float) -> Iterator[str]:
    goal, name, who = cell
    title, words = participant_titles(results)[who], format_cell(results, goal, name, who)
    samples = results.of(goal, name, who)
    figures = figure(samples) if all(sample.counts for sample in samples) else None
    yield f"<g><title>{escape(f'{title}: {words}')}</title>"
    if figures is None:
        if samples and words.startswith("wrong"):
            end = scale.x(min(sample.seconds for sample in samples))
            yield f'<rect fill="url(#bk-wrong)" x="{_LEFT}" y="{px(y)}" width="{px(end - _LEFT)}" height="{_BAR}"/>'
            yield svg_text(end + 6, y + 10, words, "quiet")
        else:
            yield svg_text(_LEFT + 6, y + 10, words, "quiet")
    else:
        yield from _measured(results, who, figures, scale, y)
    yield "</g>"


def _measured(results: Results, who: str, figures: Figures, scale: _Scale, y: float) -> Iterator[str]:
    end = scale.x(figures.median)
    width = max(end - _LEFT, 1.5)
    yield (
        f'<rect class="{_bar_class(results, who)}" x="{_LEFT}" y="{px(y)}" width="{px(width)}" '
        f'height="{_BAR}" rx="1.5"/>'
    )
    edge = end
    if figures.count > 1:
        low, edge = scale.x(figures.least), max(scale.x(figures.most), end)
        yield f'<path class="range" d="M{px(low)} {px(y + _BAR / 2)}H{px(edge)}"/>'
    ours = who == next(iter(results.participants))
    yield svg_text(edge + 6, y + 10, format_figures(figures), f"value{' strong' if ours else ''}")


def _phases(results: Results, goal: str, names: list[str], y: float) -> tuple[list[str], float]:
    """Return one 100 % bar per scenario with its seconds on the right, and the height of all bars."""
    ours = next(iter(results.participants))
    by_scenario = {name: _sum_phases(results, goal, name, ours) for name in names}
    order = [
        phase
        for phase in (*PHASES, OTHER)
        if any(_colour(name) == phase for sums in by_scenario.values() for name in sums)
    ]
    if not order:
        return [], 12.0
    words = "each bar is 100 % of the seconds at its right: those of all phases, which overlap"
    parts = [
        svg_text(_EDGE, y + 16, f"Where the work of {ours} is", "name"),
        svg_text(_EDGE, y + 31, words, "quiet"),
        *_legend(order, y + 44),
    ]
    top = y + 44 + 18 * _legend_lines(order)
    for number, name in enumerate(names):
        parts += _stack(name, by_scenario[name], order, top + _LINE * number)
    return parts, top + _LINE * len(names) + 10 - y


def _sum_phases(results: Results, goal: str, name: str, who: str) -> dict[str, float]:
    """Return the phases of the repetition with the median time, because medians of phases do not add up."""
    samples = sorted((s for s in results.of(goal, name, who) if s.counts), key=lambda s: s.seconds)
    return {k: v for k, v in samples[len(samples) // 2].phases.items() if v > 0} if samples else {}


def _colour(phase: str) -> str:
    """Return the phase's own colour name, or ``other``."""
    return phase if phase in PHASES else OTHER


def _legend(order: list[str], y: float) -> Iterator[str]:
    x = float(_EDGE)
    for phase in order:
        width = 16 + text_width(phase, _TEXT) + 14
        if x + width > WIDTH - _EDGE:
            x, y = float(_EDGE), y + 18
        yield f'<rect class="slice-{phase}" x="{px(x)}" y="{px(y)}" width="10" height="10" rx="2"/>'
        yield svg_text(x + 15, y + 9, phase, "plain")
        x += width


def _legend_lines(order: list[str]) -> int:
    whole = sum(16 + text_width(phase, _TEXT) + 14 for phase in order)
    return 1 + int(whole // (WIDTH - 2 * _EDGE - 90))


def _stack(name: str, phases: dict[str, float], order: list[str], y: float) -> Iterator[str]:
    yield svg_text(_LEFT - 10, y + 11, scenario_title(name), "plain end")
    whole = sum(phases.values())
    if not whole:
        yield svg_text(_LEFT + 6, y + 11, "nothing to speak of", "quiet")
        return
    x, room = float(_LEFT), WIDTH - _EDGE - 80 - _LEFT
    for colour in order:
        these = {phase: seconds for phase, seconds in phases.items() if _colour(phase) == colour}
        seconds = sum(these.values())
        if these:
            title = f"{OTHER} ({', '.join(sorted(these))})" if colour == OTHER else colour
            yield from _slice(title, colour, seconds, x, y, room * seconds / whole)
        x += room * seconds / whole
    yield svg_text(WIDTH - _EDGE, y + 11, format_seconds(whole), "value strong end")


def _slice(title: str, colour: str, seconds: float, x: float, y: float, width: float) -> Iterator[str]:
    words = format_seconds(seconds)
    yield (
        f'<g><title>{escape(f"{title}: {words}")}</title><rect class="slice-{colour}" '
        f'x="{px(x)}" y="{px(y)}" width="{px(max(width - 0.8, 0.3))}" height="{_SLICE}"/>'
    )
    if text_width(words, _SMALL) + 6 <= width:
        yield svg_text(x + width / 2, y + 10.5, words, f"inside on-{colour}")
    yield "</g>"


def _bar_class(results: Results, who: str) -> str:
    if who == next(iter(results.participants)):
        return "bar-ours"
    return f"bar-{who if who in PEERS else OTHER}"
