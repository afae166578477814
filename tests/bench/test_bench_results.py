"""Figures of samples, tables and Markdown, and reading back results.json."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from buildkit.bench.output import compare, judge
from buildkit.bench.race_markdown import render_markdown
from buildkit.bench.results import SampleVerdict, Skipped, figure, parse_results, render_results, spread
from buildkit.bench.tables import format_cell, format_notes, format_ratio, make_tables
from buildkit.errors import DefinitionError
from tests.bench.races import OURS, race, samples


def test_figures_have_medians_and_spread() -> None:
    figures = figure(samples((3.0, 1.0, 2.0, 10.0, 2.5)))
    assert figures is not None
    assert (figures.count, figures.median, figures.least, figures.most) == (5, 2.5, 1.0, 10.0)
    assert figures.spread == pytest.approx(0.2)  # deviations 0.5, 1.5, 0.5, 7.5, 0: their median over 2.5
    assert figures.cpu == 1.25
    assert spread([4.0]) == 0


def test_wrong_samples_have_no_figures() -> None:
    mixed = [*samples((1.0, 2.0)), *samples((0.1,), verdict=SampleVerdict.WRONG)]
    figures = figure(mixed)
    assert figures is not None
    assert figures.least == 1.0
    assert figure(samples((0.1,), verdict=SampleVerdict.WRONG)) is None
    assert figure(samples((0.1,), verdict=SampleVerdict.FAILED)) is None
    assert figure(samples((0.1,), verdict=SampleVerdict.EXCESS)) is not None


def test_wrong_peer_is_not_compared_with() -> None:
    quick = samples((0.1,), "buildah", verdict=SampleVerdict.WRONG, note="/app/main.py is not what it should be")
    docker = samples((4.0,), "docker")
    results = race(samples((1.0,)), quick, docker, participants={OURS: "1", "buildah": "1.28.2", "docker": "20.10"})
    assert format_ratio(results, "runnable", "light-pin") == "4.0× faster than BuildKit of docker"
    assert format_cell(results, "runnable", "light-pin", "buildah") == "wrong (0.10 s)"
    assert "buildah 1.28.2, one light pin, runnable: wrong, /app/main.py is not what it should be" in format_notes(
        results
    )


def test_one_wrong_repetition_makes_the_cell_wrong() -> None:
    results = race(
        samples((1.0,)), [*samples((3.0,), "buildah"), *samples((1.0,), "buildah", verdict=SampleVerdict.WRONG)]
    )
    assert format_cell(results, "runnable", "light-pin", "buildah").startswith("wrong")


@pytest.mark.parametrize(
    ("peer", "words"), [(0.5, "2.0× slower than buildah"), (1.02, "as buildah"), (2.5, "2.5× faster than buildah")]
)
def test_ratio_names_the_winner(peer: float, words: str) -> None:
    assert format_ratio(race(samples((1.0,)), samples((peer,), "buildah")), "runnable", "light-pin") == words


def test_participant_titles_agree_everywhere() -> None:
    peers = {OURS: "0.1.0", "buildkitd": "0.32.0", "buildkitd-stages": "0.32.0"}
    bad = samples((3.0,), "buildkitd-stages", until="pushed", verdict=SampleVerdict.FAILED, note="exit")
    results = race(
        samples((1.0,)), samples((3.0,), "buildkitd"), samples((2.0,), "buildkitd-stages"), bad, participants=peers
    )
    assert make_tables(results)[0].columns == ("", OURS, "BuildKit 0.32.0", "staged BuildKit 0.32.0", "")
    assert format_ratio(results, "runnable", "light-pin") == "2.0× faster than staged BuildKit"
    notes = list(format_notes(results))
    assert notes[0] == "staged: each group of wheels in a stage of its own"
    assert notes[1].startswith("staged BuildKit 0.32.0, one light pin, pushed: failed")
    text = render_markdown(results)
    assert "- staged BuildKit: 0.32.0" in text
    assert "buildkitd" not in text
    assert not any("staged" in note for note in format_notes(race(samples((1.0,)))))


def test_results_round_trip_through_json() -> None:
    results = race(
        samples((1.0, 2.0), phases={"pack": 0.5}, up=5, space=7),
        samples((3.0,), "buildah", verdict=SampleVerdict.FAILED, note="exit", output="boom"),
    )
    assert json.loads(render_results(results))["format"] == 1
    assert render_results(parse_results(render_results(results), "x")) == render_results(results)


def _bent(**changes: object) -> str:
    return json.dumps({**race(samples((1.0,))).as_json(), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 0}',
        '{"format": 1, "samples": [{}]}',
        _bent(participants={}),
        _bent(workload=[]),
        _bent(calibrations=[{"hash": "0.1"}]),
        _bent(samples=[{**asdict(samples((1.0,))[0]), "seconds": "1"}]),
        _bent(samples=[{**asdict(samples((1.0,))[0]), "seconds": 0}]),
        _bent(samples=[{**asdict(samples((1.0,))[0]), "until": ["pushed"]}]),
    ],
)
def test_malformed_results_are_refused_with_the_file_name(text: str) -> None:
    with pytest.raises(DefinitionError, match=r"old\.json") as caught:
        parse_results(text, "old.json")
    assert caught.value.hint


def test_markdown_has_tables_failures_and_skipped_rows() -> None:
    failed = samples((3.0,), "buildah", verdict=SampleVerdict.FAILED, note="exit code 1", output="a\n```\nboom\x1b[1m")
    results = race(samples((1.0,)), failed)
    skipped = Skipped(until="", scenario="", participant="docker", why="docker is not installed")
    text = render_markdown(replace(results, skipped=(skipped,)), ("runnable.svg",))
    assert "| one light pin | 1.0 s | failed |" in text
    assert "![Bars for every scenario](runnable.svg)" in text
    assert "BuildKit of docker: not raced, docker is not installed" in text
    assert "- xoe-buildkit: 0.1.0" in text
    assert "a &lt;fast&gt; one" in text
    fence = text[text.index("```text") :]
    assert "boom" in fence
    assert fence.count("```") == 2, "foreign output must not end the block"
    assert "\x1b" not in text


def test_traffic_tables_cover_only_pushes() -> None:
    pushed = samples((1.0,), until="pushed", up=2_000_000, down=1000)
    titles = [table.title for table in make_tables(race(samples((1.0,)), pushed))]
    assert any("bytes up" in title and title.startswith("pushed") for title in titles)
    assert not any("bytes up" in title and title.startswith("runnable") for title in titles)


def test_our_own_mistakes_fail_the_race(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(race(samples((1.0,)), samples((1.0,), "buildah", verdict=SampleVerdict.WRONG))) == 0
    assert judge(race(samples((1.0,), verdict=SampleVerdict.EXCESS, note="layers: 1 of model too many"))) == 1
    assert "error: one light pin, runnable: excess: layers: 1 of model too many" in capsys.readouterr().err


def test_comparison_names_the_slower_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    old = race(samples((1.0,) * 3))
    assert compare(old, old, 0.15) == 0
    assert "no slower than before: 1 row, limit 15%" in capsys.readouterr().err
    assert compare(old, race(samples((3.0,) * 3)), 0.15) == 1
    assert "error: one light pin until runnable: 200% slower" in capsys.readouterr().err
