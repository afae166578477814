"""A picture of drift: for each signal the shares of values in the bins of the profile, then and now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from buildkit.monitor.metrics import clean_label
from buildkit.monitor.model_figures import ModelFigures, SignalFigures
from buildkit.report.graph_style import render_chart_style
from buildkit.xoe_runtime.drift import Drift, Sketch

_WIDTH, _LEFT, _TOP = 800, 40, 70
_COLUMNS, _PANEL, _ROW, _BARS = 2, 340, 190, 104
_GAP = 20


def render_drift(model: ModelFigures) -> str:
    """Return an SVG document; equal figures give equal text. It needs no font, script or other file."""
    rows = -(-len(model.signals) // _COLUMNS)
    height = _TOP + rows * _ROW + _GAP
    title = clean_label(f"{model.model} {model.version}")
    legend = (
        "share of values in each bin; outline: profile, filled: now; bins hold equal shares of the profile if they can"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>',
        f'<text class="title" x="{_LEFT}" y="34">{escape(title)}</text>',
        f'<text class="quiet" x="{_LEFT}" y="52">{escape(legend)}</text>',
    ]
    for number, signal in enumerate(model.signals):
        row, column = divmod(number, _COLUMNS)
        parts += _panel(signal, _LEFT + column * (_PANEL + 2 * _GAP), _TOP + row * _ROW)
    return "\n".join([*parts, "</svg>"]) + "\n"


def format_drift(drift: Drift) -> str:
    """Return what is known of a signal in a few words."""
    if drift.psi is None or drift.ks is None or drift.pvalue is None:
        return f"too few: {drift.samples} of {drift.needed}"
    return f"{drift.state}: PSI {drift.psi:.3f}, KS {drift.ks:.3f} (p {drift.pvalue:.2g}), {drift.samples} values"


def _panel(signal: SignalFigures, x: int, y: int) -> Iterator[str]:
    before, now = _shares(signal.reference), _shares(signal.seen)
    scale = _BARS / max(0.01, *before, *now)
    floor, width = y + 40 + _BARS, _PANEL / len(before)
    drifted = "drifted" if signal.drift.state == "drifted" else "steady"
    yield f'<text class="name" x="{x}" y="{y + 16}">{escape(clean_label(signal.name))}</text>'
    yield f'<text class="quiet" x="{x}" y="{y + 31}">{escape(format_drift(signal.drift))}</text>'
    for number, (old, new) in enumerate(zip(before, now, strict=True)):
        left = x + number * width
        told = escape(f"{_bin(signal.reference.edges, number)}: {old:.1%} in the profile, {new:.1%} now")
        tall = new * scale
        yield (
            f'<rect class="{drifted}" x="{left + 2:.1f}" y="{floor - tall:.1f}" width="{width - 4:.1f}" '
            f'height="{tall:.1f}"/>'
        )
        yield (
            f'<rect class="profile" x="{left + 1:.1f}" y="{floor - old * scale:.1f}" width="{width - 2:.1f}" '
            f'height="{old * scale:.1f}"><title>{told}</title></rect>'
        )
    yield f'<line class="rule" x1="{x}" y1="{floor}" x2="{x + _PANEL}" y2="{floor}"/>'
    for number in _labelled(signal.reference.edges):
        place = x + (number + 1) * width
        yield f'<text class="middle" x="{place:.1f}" y="{floor + 14}">{signal.reference.edges[number]:.5g}</text>'


def _labelled(edges: Sequence[float]) -> list[int]:
    """Return the edges that have a label: every second, and not those beside a frequent value."""
    wide = [0, *(n for n in range(1, len(edges)) if edges[n] - edges[n - 1] > 1e-5 * max(1.0, abs(edges[n])))]
    return wide[:: 2 if len(wide) > 5 else 1]


def _bin(edges: Sequence[float], number: int) -> str:
    low, high = [None, *edges][number], [*edges, None][number]
    if high is None:
        return f"above {low:.6g}"
    return f"up to {high:.6g}" if low is None else f"{low:.6g} to {high:.6g}"


def _shares(sketch: Sketch) -> list[float]:
    return [count / max(1, sketch.size) for count in sketch.counts]


def _style() -> str:
    shapes = "text{font-family:sans-serif;font-size:11px}.title{font-size:16px;font-weight:600}"
    shapes += ".name{font-size:13px;font-weight:600}.middle{text-anchor:middle}"
    return render_chart_style(shapes, _marks)


def _marks(colour: Mapping[str, str]) -> str:
    return (
        f".steady{{fill:{colour['cache-mark']}}}.drifted{{fill:{colour['mark']}}}"
        f".profile{{fill:{colour['ground']};fill-opacity:0;stroke:{colour['text']}}}"
    )
