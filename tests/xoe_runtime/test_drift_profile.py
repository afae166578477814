"""The file of a reference profile: what it holds, and what is refused."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from buildkit.xoe_runtime.drift_profile import DriftProfile, make_profile, parse_profile, render_profile

SHA = "ab" * 32


def made() -> DriftProfile:
    values = random.Random(1)
    rows = [{"level": values.gauss(-20, 5), "rate": 16_000.0} for _ in range(1000)]
    return make_profile("model.onnx", SHA, "cd" * 32, rows)


def test_profile_survives_its_file_and_holds_counts_alone() -> None:
    profile = made()
    text = render_profile(profile)
    again = parse_profile(text)
    assert again._replace(signals={}) == profile._replace(signals={})
    for name, sketch in profile.signals.items():
        assert again.signals[name] == sketch._replace(total=pytest.approx(sketch.total))
    assert render_profile(again) == text
    assert len(text) < 1500
    assert profile.signals["rate"].counts == (0, 1000, 0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 2}, "no profile of format 1"),
        ({"signals": []}, "no profile of format 1"),
        ({"signals": {}}, "needs 1 to 64 signals"),
        ({"sha256": "x"}, "no SHA-256"),
        ({"model": 3}, "names no model"),
        ({"signals": {"A b": {"edges": [1], "counts": [900, 900], "sum": 0}}}, "named by small letters"),
        ({"signals": {"a": {"edges": [1], "counts": [9, 9], "sum": 0}}}, "a: 18 values are too few"),
        ({"signals": {"a": {"edges": [1], "counts": [900], "sum": 0}}}, "one count more than edges"),
        ({"signals": {"a": {"edges": [2, 1], "counts": [900, 900, 900], "sum": 0}}}, "rising edges"),
        ({"signals": {"a": {"edges": [1], "counts": [900, -1], "sum": 0}}}, "no whole number"),
        ({"signals": {"a": {"edges": [1], "counts": [900, 1.5], "sum": 0}}}, "no whole number"),
        ({"signals": {"a": {"edges": [True], "counts": [900, 900], "sum": 0}}}, "lists of numbers"),
        ({"signals": {"a": {"edges": [10**400], "counts": [900, 900], "sum": 0}}}, "lists of numbers"),
        ({"signals": {"a": 3}}, "a: is no table"),
    ],
)
def test_other_files_are_refused_with_the_reason(change: dict[str, Any], why: str) -> None:
    good = json.loads(render_profile(made()))
    with pytest.raises(ValueError, match=why):
        parse_profile(json.dumps(good | change))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": 1}', " " * 2_000_000])
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is "):
        parse_profile(text)


def test_too_few_rows_and_rows_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="level: 20 values are too few"):
        make_profile("m", SHA, "", [{"level": float(number)} for number in range(20)])
    with pytest.raises(ValueError, match="row 2 has other signals"):
        make_profile("m", SHA, "", [{"level": 1.0}, {"rate": 1.0}])
    with pytest.raises(ValueError, match="level: a value is no finite number"):
        make_profile("m", SHA, "", [{"level": float("nan")}] * 1000)
