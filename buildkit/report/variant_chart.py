"""A picture of variants of a model: accuracy against the time of a call, each as large as its bytes. Pure.

The file needs no font, script or other file, and is legible on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from buildkit.report.graph_style import render_chart_style

_WIDTH, _HEIGHT = 800, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 40, 72, 64
_LARGEST = 26.0  # radius of the source's bytes
_TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantPoint:
    """A model in the picture: ``latency`` and ``size`` are ratios to the source's; ``passes`` whether it passes."""

    name: str
    metric: float
    latency: float
    size: float
    passes: bool


def render_variants(title: str, metric: str, points: Sequence[VariantPoint]) -> str:
    """Return an SVG document; equal values give equal text. ``metric`` names the upward axis."""
    across = _Axis(low=0.0, high=1.08 * max((1.0, *(point.latency for point in points))))
    values = [point.metric for point in points] or [0.0]
    margin = max(0.15 * (max(values) - min(values)), 1e-3 * max(1.0, abs(max(values))))
    up = _Axis(low=min(values) - margin, high=max(values) + margin)
    legend = f"{metric} against the time of a call; area: bytes; hollow: refused"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="34">{escape(title)}</text>',
        f'<text class="quiet" x="{_LEFT}" y="52">{escape(legend)}</text>',
        *_grid(across, up),
    ]
    for point in sorted(points, key=lambda point: (-point.size, point.name)):
        parts += _point(point, across.place(point.latency, _X), up.place(point.metric, _Y))
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    low: float
    high: float

    def place(self, value: float, ends: tuple[float, float]) -> float:
        """Return the pixel of a value, between the ends of the axis."""
        return ends[0] + (value - self.low) / (self.high - self.low) * (ends[1] - ends[0])

    def ticks(self) -> list[float]:
        return [self.low + number * (self.high - self.low) / _TICKS for number in range(_TICKS + 1)]


_X = (float(_LEFT), float(_WIDTH - _RIGHT))
_Y = (float(_HEIGHT - _BOTTOM), float(_TOP))


def _grid(across: _Axis, up: _Axis) -> Iterator[str]:
    for tick in across.ticks():
        x = across.place(tick, _X)
        yield f'<line class="rule" x1="{x:.1f}" y1="{_Y[0]}" x2="{x:.1f}" y2="{_Y[1]}"/>'
        yield f'<text class="middle" x="{x:.1f}" y="{_Y[0] + 18}">{tick:.2f}</text>'
    for tick in up.ticks():
        y = up.place(tick, _Y)
        yield f'<line class="rule" x1="{_X[0]}" y1="{y:.1f}" x2="{_X[1]}" y2="{y:.1f}"/>'
        yield f'<text class="end" x="{_X[0] - 8}" y="{y + 4:.1f}">{tick:.4g}</text>'
    label = "time of a call, as a share of the source&#8217;s"
    yield f'<text class="middle quiet" x="{sum(_X) / 2}" y="{_HEIGHT - 18}">{label}</text>'


def _point(point: VariantPoint, x: float, y: float) -> Iterator[str]:
    radius = max(4.0, _LARGEST * point.size**0.5)
    kind = "good" if point.passes else "refused"
    told = f"{point.name}: {point.metric:.4g}, {point.latency:.2f} of the time, {point.size:.2f} of the bytes"
    yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{escape(told)}</title></circle>'
    ends = x > _WIDTH - 200
    place, style = (x - radius - 6, "end") if ends else (x + radius + 6, "start")
    yield f'<text class="{style}" x="{place:.1f}" y="{y + 4:.1f}">{escape(point.name)}</text>'


def _style() -> str:
    shapes = "text{font-family:sans-serif;font-size:11px}.title{font-size:18px;font-weight:600}"
    shapes += ".end{text-anchor:end}.middle{text-anchor:middle}"
    return render_chart_style(shapes, _marks)


def _marks(colour: Mapping[str, str]) -> str:
    return (
        f".good{{fill:{colour['mark']};fill-opacity:.55;stroke:{colour['mark']}}}"
        f".refused{{fill:none;stroke:{colour['quiet']};stroke-dasharray:3 2}}"
    )
