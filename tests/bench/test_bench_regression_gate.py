"""A regression is slower by ratios within a run and by more than noise; incomparable results do not pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from buildkit.bench.output import compare
from buildkit.bench.regression_gate import ComparedRow, RegressionOutcome, check_workload, compare_rows
from buildkit.bench.results import Results, SampleVerdict
from buildkit.errors import BuildError, DefinitionError
from tests.bench.races import OURS, race, samples


def _race(ours: tuple[float, ...], peer: tuple[float, ...], fixed: float = 0.1, version: str = "1.28.2") -> Results:
    return race(samples(ours), samples(peer, "buildah"), fixed=fixed, participants={OURS: "0.1.0", "buildah": version})


OLD = _race((1.0, 1.02, 0.98), (5.0, 5.1, 4.9))


NOISY = _race((1.0, 1.35, 1.9), (5.0, 5.1, 4.9))


def find_regressions(old: Results, new: Results, limit: float) -> list[ComparedRow]:
    return [row for row in compare_rows(old, new, limit) if row.outcome is RegressionOutcome.SLOWER]


@pytest.mark.parametrize(
    ("why", "new"),
    [
        ("the same", OLD),
        ("a machine half as fast", _race((2.0, 2.1, 1.9), (10.0, 10.1, 9.9), fixed=0.2)),
        ("disks are slow today: the peer is too", _race((2.0, 2.1, 1.9), (10.0, 10.1, 9.9))),
        ("the peer became faster", _race((1.0, 1.02, 0.98), (2.5, 2.6, 2.4))),
        ("within the limit", _race((1.1, 1.12, 1.08), (5.0, 5.1, 4.9))),
        ("less than the spread", NOISY),
        ("we became faster", _race((0.5, 0.51, 0.49), (5.0, 5.1, 4.9))),
    ],
)
def test_equal_or_faster_results_are_no_regression(why: str, new: Results) -> None:
    assert find_regressions(OLD, new, 0.15) == [], why


def test_slower_by_every_reference_is_a_regression_with_a_name() -> None:
    (found,) = find_regressions(OLD, _race((2.0, 2.05, 1.95), (5.0, 5.1, 4.9)), 0.15)
    assert (found.until, found.scenario) == ("runnable", "light-pin")
    assert found.growth == pytest.approx(1.0)
    assert str(found).startswith("one light pin until runnable: 100% slower, against ")


def test_regression_shows_on_a_machine_twice_as_fast() -> None:
    (found,) = find_regressions(OLD, _race((1.0, 1.02, 0.98), (2.5, 2.6, 2.4), fixed=0.05), 0.15)
    assert found.growth == pytest.approx(1.0)


def test_peer_of_another_version_is_no_reference() -> None:
    newer = _race((2.0, 2.05, 1.95), (10.0, 10.1, 9.9), version="1.41.0")
    (found,) = find_regressions(OLD, newer, 0.15)
    assert found.against == "fixed work"


def test_fixed_work_is_the_reference_without_a_peer() -> None:
    old, slow = race(samples((1.0,) * 3)), race(samples((2.0,) * 3))
    assert len(find_regressions(old, slow, 0.15)) == 1
    assert find_regressions(old, race(samples((2.0,) * 3), fixed=0.2), 0.15) == []


def test_unnoticeable_growth_is_no_regression() -> None:
    old, new = race(samples((0.05,) * 3)), race(samples((0.1,) * 3))
    assert find_regressions(old, new, 0.15) == []


@pytest.mark.parametrize(
    ("new", "outcome"),
    [
        (OLD, RegressionOutcome.FINE),
        (NOISY, RegressionOutcome.NOISY),
        (_race((0.5, 0.6, 0.7), (5.0, 5.1, 4.9)), RegressionOutcome.FINE),  # as wide, but faster by more than that
        (_race((1.0, 1.02, 0.98), (6.5, 2.5, 9.9)), RegressionOutcome.FINE),  # by the fixed work; the peer says nothing
        (
            _race((1.9, 1.91, 1.89), (5.5, 2.5, 9.9)),
            RegressionOutcome.NOISY,
        ),  # the mildest measure, the peer, says nothing
        (race(samples((1.0, 1.01, 0.99), scenario="heavy-pin")), RegressionOutcome.UNMET),
    ],
)
def test_each_row_is_slower_fine_noisy_or_unmet(new: Results, outcome: RegressionOutcome) -> None:
    assert [row.outcome for row in compare_rows(OLD, new, 0.15)] == [outcome]


def test_unnoticeable_noise_is_ignored() -> None:
    old = race(samples((0.05, 0.06, 0.04)))
    assert [row.outcome for row in compare_rows(old, old, 0.15)] == [RegressionOutcome.FINE]


ELSEWHERE = race(samples((9.0,) * 3, scenario="heavy-pin"))
NEWER = _race((1.0,) * 3, (5.0,) * 3, version="1.41.0")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (OLD, ELSEWHERE, "the old results have no such row: one heavy pin until runnable"),
        (OLD, race(), "nothing was raced"),
        (
            OLD,
            race(samples((1.0,), verdict=SampleVerdict.WRONG)),
            "we did not build it right now: one light pin until run",
        ),
        (
            race(samples((1.0,), verdict=SampleVerdict.FAILED)),
            OLD,
            "we did not build it right then: one light pin until run",
        ),
        (
            race(samples((1.0,), verdict=SampleVerdict.FAILED)),
            race(samples((1.0,), verdict=SampleVerdict.WRONG)),
            "we did not build it right then, nor now: one light pin until run",
        ),
        (replace(OLD, participants={"buildah": "1"}, samples=()), OLD, f"the old results have no {OURS} (but buildah)"),
        (
            replace(OLD, calibrations=()),
            NEWER,
            "neither fixed work nor a peer of the same version (buildah 1.28.2 then, 1.41.0 now): one light pin",
        ),
        (
            race(samples((1.0,)), participants={OURS: "1"}),
            replace(NEWER, calibrations=()),
            "neither fixed work nor a peer of the same version (buildah 1.41.0 now): one light pin",
        ),
    ],
)
def test_comparison_without_rows_fails_with_a_reason(old: Results, new: Results, words: str) -> None:
    with pytest.raises(BuildError, match="nothing to compare") as caught:
        compare(old, new, 0.15)
    assert words in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 1


def test_only_noisy_rows_do_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BuildError, match="too noisy") as caught:
        compare(OLD, NOISY, 0.15)
    assert "--repeat" in caught.value.hint
    errors = capsys.readouterr().err
    assert "1 row too noisy to say: one light pin until runnable" in errors
    assert "no slower" not in errors


def test_noisy_and_missing_rows_are_listed_separately(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet = samples((1.0, 1.01, 0.99), scenario="heavy-pin") + samples((1.0, 1.0, 1.0), scenario="cold")
    old = replace(OLD, samples=(*OLD.samples, *quiet))
    more = samples((1.0,) * 3, scenario="base")
    new = replace(NOISY, samples=(*NOISY.samples, *quiet, *more))
    assert compare(old, new, 0.15) == 0
    assert capsys.readouterr().err.splitlines() == [
        "1 row too noisy to say: one light pin until runnable",
        "not compared: the old results have no such row: another base until runnable",
        "no slower than before: 2 rows, limit 15%",
    ]


@pytest.mark.parametrize("other", [{"name": "mine"}, {"stage": "hardened"}, {"wheels": 68}, {"model bytes": 1}])
def test_results_of_another_workload_are_refused(other: Mapping[str, object]) -> None:
    ours = {"name": "heavy", "stage": "app", "wheels": 67, "wheel bytes": 5, "models": 4, "model bytes": 8}
    check_workload(replace(OLD, workload=ours), ours)
    key, value = next(iter(other.items()))
    with pytest.raises(DefinitionError, match="another workload") as caught:
        check_workload(replace(OLD, workload={**ours, **other}), ours)
    assert f"{key} {value} then, {ours[key]} now" in caught.value.message
    assert caught.value.hint
    with pytest.raises(DefinitionError, match="stage unknown then, app now"):
        check_workload(OLD, ours)


def test_regression_uses_peer_titles() -> None:
    peers = {OURS: "0.1.0", "buildkitd": "0.32.0"}
    old, new = (
        race(samples((n,) * 3), samples((m,) * 3, "buildkitd"), participants=peers) for n, m in ((1, 5), (3, 6))
    )
    assert str(find_regressions(old, new, 0.15)[0]) == "one light pin until runnable: 150% slower, against BuildKit"
    (row,) = compare_rows(old, replace(new, calibrations=(), participants={**peers, "buildkitd": "1.0"}), 0.15)
    assert "(BuildKit 0.32.0 then, 1.0 now)" in row.why
