"""The picture: every participant and scenario is in it, longer is slower, and foreign words stay words."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from buildkit.bench.chart import WIDTH, render_chart
from buildkit.bench.results import Verdict
from tests.bench.races import OURS, race, samples

SVG = "{http://www.w3.org/2000/svg}"
FOUR = {OURS: "0.1", "buildah": "1.28.2", "docker": "20.10.24", "buildkitd": "0.32"}


def _bars(text: str) -> dict[str, float]:
    """What every bar says, and how long it is."""
    found = {}
    for group in ET.fromstring(text).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        bar = group.find(f"{SVG}rect")
        if title is not None and bar is not None and not str(bar.get("class")).startswith("slice"):
            found[str(title.text)] = float(str(bar.get("width")))
    return found


def test_longer_is_slower_and_every_bar_is_named() -> None:
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
        "BuildKit (docker 20.10.24): 30.0 s",
        "BuildKit 0.32: 0.30 s",
    ]
    ours, buildah, docker, same = bars.values()
    assert ours == same
    assert buildah - ours == pytest.approx(docker - buildah, abs=0.2), "ten times is as far everywhere"


def test_wrong_and_failed_have_no_bar_of_their_colour() -> None:
    results = race(
        samples((1.0,)),
        samples((0.2,), "buildah", verdict=Verdict.WRONG),
        samples((0.2,), "docker", verdict=Verdict.FAILED),
        participants=FOUR,
    )
    text = render_chart(results, "runnable")
    assert 'fill="url(#bk-wrong)"' in text
    assert 'class="bar-1" x="178"' not in text
    assert ">wrong (0.20 s)<" in text
    assert ">failed<" in text


def test_phases_are_stacked_to_the_same_length() -> None:
    phases = {"import": 3.0, "pack": 1.0}
    results = race(samples((1.0,), phases=phases), samples((1.0,), scenario="cold", phases={"plan": 0.5}))
    widths: dict[str, float] = {}
    for group in ET.fromstring(render_chart(results, "runnable")).iter(f"{SVG}g"):
        bar = group.find(f"{SVG}rect")
        if bar is not None and str(bar.get("class")).startswith("slice"):
            widths[str(group.findtext(f"{SVG}title"))] = float(str(bar.get("width")))
    assert set(widths) == {"import: 3.0 s", "pack: 1.0 s", "plan: 0.50 s"}
    assert widths["import: 3.0 s"] == pytest.approx(3 * widths["pack: 1.0 s"], rel=0.02)
    assert widths["plan: 0.50 s"] == pytest.approx(widths["import: 3.0 s"] + widths["pack: 1.0 s"], abs=1.5)


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_leaves_the_frame_and_it_is_deterministic(count: int) -> None:
    many = [
        samples((float(n + 1),) * count, who, scenario=name) for n, who in enumerate(FOUR) for name in ("cold", "base")
    ]
    results = race(*many, participants=FOUR)
    text = render_chart(results, "runnable")
    assert text == render_chart(results, "runnable")
    svg = ET.fromstring(text)
    height = float(str(svg.get("height")))
    for node in svg.iter():
        if node.get("x") and node.tag != f"{SVG}pattern":
            assert 0 <= float(str(node.get("x"))) <= WIDTH
            assert 0 <= float(str(node.get("y"))) <= height


def test_foreign_words_stay_words() -> None:
    results = race(samples((1.0,)), samples((2.0,), "evil<&>", note="x"), participants={OURS: "1", "evil<&>": '"'})
    ET.fromstring(render_chart(results, "runnable"))
