"""Colours of the race's pictures, for light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit.report.graphstyle import COLOURS

FONT = '-apple-system,BlinkMacSystemFont,"Segoe UI","Noto Sans",Helvetica,Arial,sans-serif'
BARS = 5  # participants that have a colour of their own: ourselves first
SLICES = 8

# name: on a light page, on a dark one
_OWN: Mapping[str, tuple[str, str]] = {
    "bar-0": ("#e8590c", "#ff8a3d"),
    "bar-1": ("#5b8fc4", "#5a90c8"),
    "bar-2": ("#5aa889", "#4c9a7c"),
    "bar-3": ("#9a86c8", "#9683c9"),
    "bar-4": ("#c3b5e3", "#6f5fa0"),
    "slice-0": ("#e8590c", "#d9632a"),
    "slice-1": ("#f59f5a", "#f0a467"),
    "slice-2": ("#5b8fc4", "#5a90c8"),
    "slice-3": ("#a8c8e8", "#8fb4da"),
    "slice-4": ("#5aa889", "#4c9a7c"),
    "slice-5": ("#a9d6c4", "#8cc4ae"),
    "slice-6": ("#9a86c8", "#9683c9"),
    "slice-7": ("#c9cfd6", "#6e7781"),
}

DEFS = """<defs>
<pattern id="bk-wrong" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="ground" width="6" height="6" stroke="none"/><rect class="wrong" width="2.5" height="6"/></pattern>
</defs>"""  # noqa: E501

_SHAPES = f"""
text{{font-family:{FONT};font-size:11px}}
.title{{font-size:18px;font-weight:600}}
.name{{font-size:12px;font-weight:600}}
.value{{font-variant-numeric:tabular-nums}}
.strong{{font-weight:600}}
.end{{text-anchor:end}}
.middle{{text-anchor:middle}}
.range{{stroke-width:1;fill:none}}
"""


def style() -> str:
    """The style sheet: shapes, colours for light pages, and for dark ones where the reader's system is dark."""
    return f"{_SHAPES}{_colours(0)}@media (prefers-color-scheme:dark){{\n{_colours(1)}}}\n"


def _colours(page: int) -> str:
    colour = {name: pair[page] for name, pair in {**COLOURS, **_OWN}.items()}
    rules = {
        ".ground": f"fill:{colour['ground']};stroke:{colour['frame']}",
        "text": f"fill:{colour['text']}",
        ".quiet": f"fill:{colour['quiet']}",
        ".rule": f"stroke:{colour['frame']}",
        ".range": f"stroke:{colour['text']}",
        ".wrong": f"fill:{colour['quiet']}",
        ".gain": f"fill:{colour['mark']}",
        **{f".{name}": f"fill:{colour[name]}" for name in _OWN},
    }
    return "".join(f"{selector}{{{rule}}}\n" for selector, rule in rules.items())
