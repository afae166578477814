"""Colours and patterns of the picture of stages, and the style of charts, for light and dark pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

# the colour of each shape on a light page, and on a dark one
COLOURS: Mapping[str, tuple[str, str]] = {
    "ground": ("#ffffff", "#0d1117"),
    "frame": ("#d1d9e0", "#3d444d"),
    "text": ("#1f2328", "#f0f6fc"),
    "quiet": ("#59636e", "#9198a1"),
    "tie": ("#59636e", "#9198a1"),
    "outline": ("#7d8590", "#747d88"),
    "storage": ("#e4e9ee", "#2c333d"),
    "cache": ("#b3d4f0", "#1d4568"),
    "cache-mark": ("#8fbce2", "#2a5d8a"),
    "shared": ("#8fd0b5", "#175442"),
    "shared-mark": ("#6fbb9b", "#227058"),
    "built": ("#ffb877", "#8f3f00"),
    "built-mark": ("#fa9a40", "#a94e06"),
    "mark": ("#bc4c00", "#ff9a4d"),
}

DEFS = """<defs>
<pattern id="bk-storage" width="8" height="8" patternUnits="userSpaceOnUse"><rect class="storage" width="8" height="8"/></pattern>
<pattern id="bk-cache" width="8" height="8" patternUnits="userSpaceOnUse"><rect class="cache" width="8" height="8"/><circle class="cache-mark" cx="4" cy="4" r="1.3"/></pattern>
<pattern id="bk-shared" width="8" height="6" patternUnits="userSpaceOnUse"><rect class="shared" width="8" height="6"/><rect class="shared-mark" width="8" height="1.6"/></pattern>
<pattern id="bk-built" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="built" width="8" height="8"/><rect class="built-mark" width="4" height="8"/></pattern>
</defs>"""  # noqa: E501

_FONT = '-apple-system,BlinkMacSystemFont,"Segoe UI","Noto Sans",Helvetica,Arial,sans-serif'
_SHAPES = f"""
text{{font-family:{_FONT};font-size:11px}}
.title{{font-size:18px;font-weight:600}}
.name{{font-size:13px;font-weight:600}}
.end{{text-anchor:end}}
.tie,.measure,.rule{{fill:none}}
.tie{{stroke-width:1.4}}
.include{{stroke-dasharray:3.5 2.5}}
.block{{stroke-width:.6}}
.unknown{{stroke-dasharray:4 3}}
"""


def style() -> str:
    """Return the style sheet: shapes, colours for light pages, and for dark ones if the reader prefers them."""
    return f"{_SHAPES}{_colours(0)}@media (prefers-color-scheme:dark){{\n{_colours(1)}}}\n"


def _colours(page: int) -> str:
    colour = {name: pair[page] for name, pair in COLOURS.items()}
    rules = {
        ".ground": f"fill:{colour['ground']};stroke:{colour['frame']}",
        "text": f"fill:{colour['text']}",
        ".quiet": f"fill:{colour['quiet']}",
        ".block": f"stroke:{colour['outline']}",
        ".rule": f"stroke:{colour['frame']}",
        ".tie,.measure,.unknown": f"stroke:{colour['tie']}",
        ".dot": f"fill:{colour['tie']}",
        ".mark": f"fill:{colour['mark']}",
        **{
            f".{name}": f"fill:{colour[name]}"
            for name in ("storage", "cache", "cache-mark", "shared", "shared-mark", "built", "built-mark")
        },
    }
    return "".join(f"{selector}{{{rule}}}\n" for selector, rule in rules.items())


def render_chart_style(shapes: str, render_marks: Callable[[Mapping[str, str]], str]) -> str:
    """Return the style of a chart on both pages; ``render_marks`` gives the rules of its marks in a page's colours."""

    def rules(page: int) -> str:
        colour = {name: pair[page] for name, pair in COLOURS.items()}
        return (
            f".ground{{fill:{colour['ground']};stroke:{colour['frame']}}}text{{fill:{colour['text']}}}"
            f".quiet{{fill:{colour['quiet']}}}.rule{{stroke:{colour['frame']}}}{render_marks(colour)}"
        )

    return f"{shapes}{rules(0)}@media (prefers-color-scheme:dark){{{rules(1)}}}"
