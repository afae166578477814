"""The graph as SVG: each layer has its size, colour, pattern and label, and foreign text is escaped."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.plan.plan import LayerSource
from buildkit.report.graph_style import COLOURS, DEFS, style
from buildkit.report.graph_svg import WIDTH, render_svg
from buildkit.report.stage_graph import SOURCE_LABELS, Picture, format_layer
from tests.report.pictures import HOSTILE, MB, box, hostile, layer, service

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).parents[2]


class Drawn:
    """What a reader of the picture finds in it."""

    def __init__(self, picture: Picture) -> None:
        self.text = render_svg(picture)
        self.svg = ET.fromstring(self.text)
        self.layers = [group for group in self.svg.iter(f"{SVG}g") if group.get("class") == "layer"]

    @property
    def tooltips(self) -> list[str]:
        return ["".join(group.find(f"{SVG}title").itertext()) for group in self.layers]  # type: ignore[union-attr]

    @property
    def fills(self) -> dict[str, str]:
        """The fill of every layer's block by the layer's name."""
        return {tip.split("\n")[0]: self.rect(group).get("fill", "") for tip, group in self.pairs}

    @property
    def pairs(self) -> list[tuple[str, ET.Element]]:
        return list(zip(self.tooltips, self.layers, strict=True))

    @property
    def lines(self) -> list[str]:
        return ["".join(text.itertext()) for text in self.svg.iter(f"{SVG}text")]

    def rect(self, group: ET.Element) -> ET.Element:
        found = group.find(f"{SVG}rect")
        assert found is not None
        return found

    def area(self, name: str) -> float:
        """With the gap around it."""
        (rect,) = [self.rect(group) for tip, group in self.pairs if tip.split("\n")[0] == name]
        return (float(rect.get("width", 0)) + 1.5) * (float(rect.get("height", 0)) + 1.5)


def test_svg_draws_every_layer_once_in_order_with_a_full_title() -> None:
    picture = service()
    assert Drawn(picture).tooltips == [format_layer(one) for one in picture.layers]
    assert format_layer(picture.stages[2].layers[0]) == (
        "app/app\nwheels, 60.2 kB expected\nto be built: main.py changed\npart of app"
    )


def test_svg_areas_are_proportional_to_bytes_with_a_visible_minimum() -> None:
    drawn = Drawn(service())
    assert drawn.area("deps/torch") / drawn.area("base/root") == pytest.approx(900 / 118, rel=0.03)
    assert drawn.area("deps/torch") / drawn.area("deps/numpy") == pytest.approx(900 / 60, rel=0.03)
    assert drawn.area("app/app") == drawn.area("/opt/venv") == pytest.approx(64, rel=0.03)


def test_svg_keeps_any_number_of_blocks_on_the_page() -> None:
    many = [layer(f"deps/w{n}", (n % 7) ** 5 * 20_000) for n in range(118)]
    drawn = Drawn(Picture(project="p", stages=(box("deps", *many, layer("deps/x", None)),)))
    rects = [drawn.rect(group) for group in drawn.layers]
    assert len(rects) == 119
    assert all(float(r.get("x", 0)) + float(r.get("width", 0)) <= WIDTH - 20 for r in rects)
    assert all(min(float(r.get("width", 0)), float(r.get("height", 0))) > 2 for r in rects)


def test_svg_gives_each_source_a_defined_pattern_and_a_text_in_the_legend() -> None:
    drawn = Drawn(service())
    assert drawn.fills == {
        "base/root": "url(#bk-storage)",
        "/opt/venv": "url(#bk-storage)",
        "deps/torch": "url(#bk-cache)",
        "deps/numpy": "url(#bk-shared)",
        "deps/bin-1": "url(#bk-cache)",
        "app/app": "url(#bk-built)",
    }
    shapes = {pattern.get("id"): len(pattern) for pattern in drawn.svg.iter(f"{SVG}pattern")}
    assert shapes == {"bk-storage": 1, "bk-cache": 2, "bk-shared": 2, "bk-built": 2}
    for words in ("to be built: 60.2 kB", "in the remote cache: 60.0 MB", "in the cache: 901 MB"):
        assert words in drawn.lines
    assert "in local storage: 118 MB" in drawn.lines


def test_svg_marks_layers_to_be_built_and_shows_the_reason() -> None:
    drawn = Drawn(service())
    assert "app, 60.2 kB: main.py changed" in drawn.lines
    assert drawn.text.count('class="mark"') == 1
    assert "4 stages, 6 layers, 1.1 GB; 1 layer to be built (60.2 kB)" in drawn.lines
    assert "no layers of its own" in drawn.lines


def test_svg_shows_shared_reasons_once_and_counts_many() -> None:
    same = [layer(f"deps/a{n}", MB, LayerSource.BUILT, "first build") for n in range(5)]
    drawn = Drawn(Picture(project="p", stages=(box("deps", *same),)))
    assert "5 layers, 5.0 MB: first build" in drawn.lines
    other = [layer(f"deps/b{n}", MB, LayerSource.BUILT, f"b{n} is new") for n in range(9)]
    drawn = Drawn(Picture(project="p", stages=(box("deps", *same, *other),)))
    assert "b0, 1.0 MB: b0 is new" in drawn.lines
    assert "8 layers more, 8.0 MB, for 8 other reasons" in drawn.lines
    assert drawn.text.count('class="mark"') == 3


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=60))
def test_svg_sizes_add_up(sizes: list[tuple[int, bool]]) -> None:
    layers = [layer(f"deps/w{n}", size * MB) for n, (size, _) in enumerate(sizes)]
    layers += [layer(f"deps/b{n}", 3 * MB, LayerSource.BUILT, f"reason {n}") for n in range(2)]
    drawn = Drawn(Picture(project="p", stages=(box("deps", *layers, asked=False),)))
    inside = [text for group in drawn.layers for text in ("".join(t.itertext()) for t in group.iter(f"{SVG}text"))]
    below = [line for line in drawn.lines if re.match(r"(and )?w\d+ |\d+ layers, ", line) and line not in inside]
    reasons = [line for line in drawn.lines if ": reason " in line and line.split(",")[0] not in inside]
    total = sum(float(size) for line in (*inside, *below, *reasons) for size in re.findall(r"([\d.]+) MB", line))
    assert total == pytest.approx(sum(one.bytes or 0 for one in layers) / MB)


def test_svg_shows_unknown_sizes_as_unknown() -> None:
    drawn = Drawn(
        Picture(project="p", stages=(box("base", layer("base/root", None, LayerSource.BUILT, "first build")),))
    )
    assert drawn.rect(drawn.layers[0]).get("class") == "unknown"
    assert "size ?" in drawn.lines
    assert "root, size not known: first build" in drawn.lines


@given(st.text(), st.text(), st.text())
def test_svg_of_any_text_is_well_formed_with_one_line_names(name: str, why: str, project: str) -> None:
    one = layer(f"s/{name}", MB, LayerSource.BUILT, why)
    drawn = Drawn(Picture(project=project, stages=(box("s", one), box(name, base="s"))))
    assert drawn.tooltips == [format_layer(one)]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e]", drawn.text)
    drawn.text.encode()


def test_svg_escapes_hostile_names() -> None:
    drawn = Drawn(hostile())
    assert {element.tag.removeprefix(SVG) for element in drawn.svg.iter()} <= {
        "svg", "title", "desc", "style", "defs", "pattern", "rect", "circle", "path", "g", "text", "tspan",
    }  # fmt: skip
    assert not [key for element in drawn.svg.iter() for key in element.attrib if key.startswith("on")]
    assert "<b onload" not in drawn.text
    assert "&lt;b onload=" in drawn.text
    assert HOSTILE not in drawn.text


def test_svg_references_no_external_resource() -> None:
    text = render_svg(service())
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert set(re.findall(r"url\(([^)]*)\)", text)) == {f"#bk-{source}" for source in SOURCE_LABELS}
    assert not re.search(r"@import|@font-face|<script|<image|<use|href", text)


def test_svg_has_title_and_description_for_screen_readers() -> None:
    svg = Drawn(service()).svg
    assert svg.get("role") == "img"
    named = [svg.find(f"{SVG}*[@id='{name}']") for name in svg.get("aria-labelledby", "").split()]
    title, desc = ("".join(element.itertext()) for element in named if element is not None)
    assert title == "Stages and layers of speech"
    assert "1 layer to be built (60.2 kB)" in desc
    assert "app (from base, includes deps): 1 layer, 60.2 kB." in desc


def test_equal_pictures_give_equal_svg() -> None:
    assert render_svg(service()) == render_svg(service())


def test_svg_lines_lead_from_stages_to_their_users() -> None:
    drawn = Drawn(service())
    kinds = [path.get("class") for path in drawn.svg.iter(f"{SVG}path") if "tie" in path.get("class", "")]
    assert sorted(kinds) == ["tie from", "tie from", "tie include"]


def test_svg_legend_fits_on_the_page() -> None:
    stages = (
        box("a", *(layer(f"a/{source}", 999 * MB, source) for source in SOURCE_LABELS)),
        box("b", layer("b/root", None, LayerSource.BUILT)),
    )
    drawn = Drawn(Picture(project="p", stages=stages))
    (last,) = [text for text in drawn.svg.iter(f"{SVG}text") if text.text == "in local storage: 999 MB"]
    assert float(last.get("x", 0)) + 6.6 * len(last.text or "") <= WIDTH


@pytest.mark.parametrize("page", [0, 1])
def test_svg_text_has_enough_contrast_on_every_fill(page: int) -> None:
    colour = {name: pair[page] for name, pair in COLOURS.items()}
    for fill in ("ground", "storage", "cache", "cache-mark", "shared", "shared-mark", "built", "built-mark"):
        assert contrast(colour["text"], colour[fill]) >= 4.5, fill
    assert contrast(colour["quiet"], colour["ground"]) >= 4.5
    for shape in ("outline", "mark", "tie"):
        assert contrast(colour[shape], colour["ground"]) >= 3


def test_picture_of_the_documentation_is_up_to_date() -> None:
    text = (ROOT / "docs/images/graph.svg").read_text("utf-8")
    names = {
        "".join(span.itertext()) for span in ET.fromstring(text).iter(f"{SVG}tspan") if span.get("class") == "name"
    }
    assert names == {path.parent.name for path in ROOT.glob("stages/*/stage.toml")}
    assert style() in text, "draw it again: nox -s graph -- --svg docs/images/graph.svg"
    assert DEFS in text


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
