"""Colours of the charts, for light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit.report.graph_style import COLOURS

FONT = '-apple-system,BlinkMacSystemFont,"Segoe UI","Noto Sans",Helvetica,Arial,sans-serif'
_DUSK = 0.21  # the luminance at which white and near-black text are equally legible
OTHER = "other"
# Fixed colours of our project, of peers and of phases. All differ, and neighbours differ more, also for colour-blind
# readers. Phases are drawn in this order; phases that are not listed are small or never occur in a race.
PEERS: Mapping[str, str] = {
    "buildah": "#7fb2e5",
    "buildkitd": "#2f7f65",
    "buildkitd-stages": "#6a4fa3",
    "docker": "#b5dccb",
}
PHASES: Mapping[str, str] = {
    "plan": "#2f3da7",
    "look": "#d184f5",
    "pull": "#5e442c",
    "fetch": "#8ed9ff",
    "scan": "#a4895e",
    "start": "#565fd2",
    "pack": "#6a7200",
    "compress": "#bed7ac",
    "import": "#ea9a21",
    "push": "#cb60a9",
    "share": "#904272",
    "attest": "#fec827",
}
_GREY = "#aab2bb"

_OURS = ("#e8590c", "#ff8a3d")  # on a light page, on a dark page

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
.inside{{font-size:10px;text-anchor:middle;font-variant-numeric:tabular-nums}}
"""


def style() -> str:
    """Return the style sheet: shapes, and colours for light and (if the reader's system is dark) dark pages."""
    bars = "".join(f".bar-{name}{{fill:{colour}}}\n" for name, colour in {**PEERS, OTHER: _GREY}.items())
    slices = "".join(
        f".slice-{phase}{{fill:{colour}}}\n.on-{phase}{{fill:{_ink(colour)}}}\n"
        for phase, colour in {**PHASES, OTHER: _GREY}.items()
    )
    return f"{_SHAPES}{bars}{_colours(0)}@media (prefers-color-scheme:dark){{\n{_colours(1)}}}\n{slices}"


def _ink(colour: str) -> str:
    """Return white or near-black, whichever is more legible on the colour."""
    red, green, blue = ((int(colour[at : at + 2], 16) / 255) ** 2.2 for at in (1, 3, 5))
    return "#ffffff" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < _DUSK else COLOURS["text"][0]


def _colours(page: int) -> str:
    colour = {name: pair[page] for name, pair in {**COLOURS, "ours": _OURS}.items()}
    rules = {
        ".ground": f"fill:{colour['ground']};stroke:{colour['frame']}",
        "text": f"fill:{colour['text']}",
        ".quiet": f"fill:{colour['quiet']}",
        ".rule": f"stroke:{colour['frame']}",
        ".range": f"stroke:{colour['text']}",
        ".wrong": f"fill:{colour['quiet']}",
        ".gain": f"fill:{colour['mark']}",
        ".bar-ours": f"fill:{colour['ours']}",
    }
    return "".join(f"{selector}{{{rule}}}\n" for selector, rule in rules.items())
