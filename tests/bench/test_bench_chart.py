"""The chart: it has every participant and scenario, longer bars are slower, and foreign text is escaped."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from buildkit.bench.chart import WIDTH, render_chart
from buildkit.bench.chart_style import PEERS, PHASES, style
from buildkit.bench.results import Results, SampleVerdict
from buildkit.report.svg_blocks import text_width
from tests.bench.races import OURS, race, samples

SVG = "{http://www.w3.org/2000/svg}"
FOUR = {OURS: "0.1", "buildah": "1.28.2", "docker": "20.10.24", "buildkitd": "0.32"}
STAGED = {OURS: "0.1", "buildah": "1.28.2", "buildkitd": "0.32", "buildkitd-stages": "0.32"}


def _bars(text: str) -> dict[str, tuple[str, float]]:
    """Return the title, colour class and length of each bar."""
    found = {}
    for group in ET.fromstring(text).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        bar = group.find(f"{SVG}rect")
        if title is not None and bar is not None and not str(bar.get("class")).startswith("slice"):
            found[str(title.text)] = (str(bar.get("class")), float(str(bar.get("width"))))
    return found


def test_longer_bars_mean_more_seconds_and_have_labels() -> None:
    results = race(
        samples((0.3, 0.2, 0.4)),
        samples((3.0,), "buildah"),
        samples((30.0,), "docker"),
        samples((0.3,), "buildkitd"),
        participants=FOUR,
    )
    bars = _bars(render_chart(results, "runnable"))
    assert list(bars) == [
        "xoe-buildkit: 0.30 s (0.20–0.40)",
        "buildah 1.28.2: 3.0 s",
        "BuildKit of docker 20.10.24: 30.0 s",
        "BuildKit 0.32: 0.30 s",
    ]
    ours, buildah, docker, same = (width for _, width in bars.values())
    assert ours == same
    assert buildah - ours == pytest.approx(docker - buildah, abs=0.2), "ten times is as far everywhere"


def test_wrong_and_failed_samples_have_no_coloured_bar() -> None:
    results = race(
        samples((1.0,)),
        samples((0.2,), "buildah", verdict=SampleVerdict.WRONG),
        samples((0.2,), "docker", verdict=SampleVerdict.FAILED),
        participants=FOUR,
    )
    text = render_chart(results, "runnable")
    assert 'fill="url(#bk-wrong)"' in text
    assert 'class="bar-buildah" x="178"' not in text
    assert ">wrong (0.20 s)<" in text
    assert ">failed<" in text


def _slices(results: Results) -> dict[str, tuple[str, float]]:
    """The colour's class and the width of every part of a bar of phases."""
    found = {}
    for group in ET.fromstring(render_chart(results, "runnable")).iter(f"{SVG}g"):
        bar = group.find(f"{SVG}rect")
        if bar is not None and str(bar.get("class")).startswith("slice"):
            found[str(group.findtext(f"{SVG}title"))] = (str(bar.get("class")), float(str(bar.get("width"))))
    return found


def test_phase_bars_all_have_full_length() -> None:
    phases = {"import": 3.0, "pack": 1.0}
    results = race(samples((1.0,), phases=phases), samples((1.0,), scenario="cold", phases={"plan": 0.5}))
    widths = {title: width for title, (_, width) in _slices(results).items()}
    assert set(widths) == {"import: 3.0 s", "pack: 1.0 s", "plan: 0.50 s"}
    assert widths["import: 3.0 s"] == pytest.approx(3 * widths["pack: 1.0 s"], rel=0.02)
    assert widths["plan: 0.50 s"] == pytest.approx(widths["import: 3.0 s"] + widths["pack: 1.0 s"], abs=1.5)


def test_phase_colour_does_not_depend_on_other_phases() -> None:
    every = {phase: 1.0 + number for number, phase in enumerate(PHASES)}
    up = _slices(race(samples((1.0,), phases=every)))
    down = _slices(race(samples((1.0,), phases={phase: 20 - seconds for phase, seconds in every.items()})))
    colours = {title.partition(":")[0]: colour for title, (colour, _) in up.items()}
    assert colours == {title.partition(":")[0]: colour for title, (colour, _) in down.items()}
    assert set(colours) == set(PHASES)
    found = [style().partition(f".{colour}{{")[2].partition("}")[0] for colour in colours.values()]
    assert len(set(found)) == len(PHASES), "no two are alike"


def test_peer_colour_does_not_depend_on_other_peers() -> None:
    groups = [samples((float(number),), who) for number, who in enumerate((OURS, "odd<&>", *PEERS), 1)]
    every = _bars(render_chart(race(*groups, participants=dict.fromkeys((OURS, "odd<&>", *PEERS), "1")), "runnable"))
    assert len({colour for colour, _ in every.values()}) == len(PEERS) + 2
    alone = race(
        samples((1.0,)), samples((5.0,), "buildkitd-stages"), participants={OURS: "1", "buildkitd-stages": "1"}
    )
    text = render_chart(alone, "runnable")
    assert _bars(text)["staged BuildKit 1: 5.0 s"][0] == every["staged BuildKit 1: 5.0 s"][0]
    for colour, _ in every.values():
        assert f".{colour}{{fill:#" in text


def test_phases_without_a_colour_are_merged() -> None:
    slices = _slices(race(samples((1.0,), phases={"pack": 2.0, "assemble": 0.5, "evil<&>": 0.25})))
    assert list(slices) == ["pack: 2.0 s", "other (assemble, evil<&>): 0.75 s"]


def test_phase_seconds_are_in_titles() -> None:
    results = race(samples((9.0,), phases={"import": 30.0, "pack": 29.0, "plan": 0.1}))
    text = render_chart(results, "runnable")
    words = {str(node.text): str(node.get("class")) for node in ET.fromstring(text).iter(f"{SVG}text")}
    assert "each bar is 100 %" in text
    assert "strong" in words["59.1 s"]
    assert {"30.0 s", "29.0 s"} <= set(words), "in the parts that have room for it"
    assert "0.10 s" not in words


def test_staged_and_plain_buildkit_have_different_labels() -> None:
    results = race(
        samples((1.0,)), samples((3.0,), "buildkitd"), samples((2.0,), "buildkitd-stages"), participants=STAGED
    )
    words = [node.text for node in ET.fromstring(render_chart(results, "runnable")).iter(f"{SVG}text")]
    assert {"BuildKit 0.32", "staged BuildKit 0.32", "2.0× faster", "than staged BuildKit"} <= set(words)
    assert any("staged: each group of wheels in a stage of its own" in str(line) for line in words)


@pytest.mark.parametrize("racing", [FOUR, STAGED, {OURS: "0.1", "buildkitd-stages": "0.32"}])
@pytest.mark.parametrize("count", [1, 3])
def test_chart_stays_in_its_frame_and_is_deterministic(count: int, racing: dict[str, str]) -> None:
    last = len(racing)
    many = [
        samples((float(last - n + (12 if n == 0 else 0)),) * count, who, scenario=name, phases={"pack": 7000.0})
        for n, who in enumerate(racing)
        for name in ("cold", "app-line", "base")
    ]
    results = replace(race(*many, participants=racing), workload={"name": "M" * 90})
    text = render_chart(results, "runnable")
    assert text == render_chart(results, "runnable")
    svg = ET.fromstring(text)
    height = float(str(svg.get("height")))
    for node in svg.iter():
        if node.get("x") and node.tag != f"{SVG}pattern":
            assert 0 <= float(str(node.get("x"))) <= WIDTH
            assert 0 <= float(str(node.get("y"))) <= height
    for node in svg.iter(f"{SVG}text"):
        x, width = float(str(node.get("x"))), text_width(str(node.text), 11)
        kinds = str(node.get("class")).split()
        left = x - (width if "end" in kinds else width / 2 if "middle" in kinds else 0)
        assert 0 <= left <= left + width <= WIDTH, node.text


def test_chart_escapes_foreign_text() -> None:
    results = race(samples((1.0,)), samples((2.0,), "evil<&>", note="x"), participants={OURS: "1", "evil<&>": '"'})
    ET.fromstring(render_chart(results, "runnable"))
