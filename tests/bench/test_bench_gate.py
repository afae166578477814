"""Slower by ratios within a run, and by more than noise: nothing else fails."""

from __future__ import annotations

import pytest

from buildkit.bench.gate import compared_rows, find_regressions
from buildkit.bench.results import Results, Verdict
from tests.bench.races import OURS, race, samples


def _race(ours: tuple[float, ...], peer: tuple[float, ...], fixed: float = 0.1, version: str = "1.28.2") -> Results:
    return race(samples(ours), samples(peer, "buildah"), fixed=fixed, participants={OURS: "0.1.0", "buildah": version})


OLD = _race((1.0, 1.02, 0.98), (5.0, 5.1, 4.9))


@pytest.mark.parametrize(
    ("why", "new"),
    [
        ("the same", OLD),
        ("a machine half as fast", _race((2.0, 2.1, 1.9), (10.0, 10.1, 9.9), fixed=0.2)),
        ("disks are slow today: the peer is too", _race((2.0, 2.1, 1.9), (10.0, 10.1, 9.9))),
        ("the peer became faster", _race((1.0, 1.02, 0.98), (2.5, 2.6, 2.4))),
        ("within the limit", _race((1.1, 1.12, 1.08), (5.0, 5.1, 4.9))),
        ("less than the spread", _race((1.0, 1.35, 1.9), (5.0, 5.1, 4.9))),
        ("we became faster", _race((0.5, 0.51, 0.49), (5.0, 5.1, 4.9))),
    ],
)
def test_what_is_no_regression(why: str, new: Results) -> None:
    assert find_regressions(OLD, new, 0.15) == [], why


def test_slower_by_every_measure_is_one_and_is_named() -> None:
    (found,) = find_regressions(OLD, _race((2.0, 2.05, 1.95), (5.0, 5.1, 4.9)), 0.15)
    assert (found.until, found.scenario) == ("runnable", "light-pin")
    assert found.growth == pytest.approx(1.0)
    assert str(found).startswith("one light pin until runnable: 100% slower, against ")


def test_slower_on_a_machine_that_is_twice_as_fast() -> None:
    (found,) = find_regressions(OLD, _race((1.0, 1.02, 0.98), (2.5, 2.6, 2.4), fixed=0.05), 0.15)
    assert found.growth == pytest.approx(1.0)


def test_a_peer_of_another_version_is_no_measure() -> None:
    newer = _race((2.0, 2.05, 1.95), (10.0, 10.1, 9.9), version="1.41.0")
    (found,) = find_regressions(OLD, newer, 0.15)
    assert found.against == "fixed work"


def test_without_a_peer_fixed_work_decides() -> None:
    old, slow = race(samples((1.0,) * 3)), race(samples((2.0,) * 3))
    assert len(find_regressions(old, slow, 0.15)) == 1
    assert find_regressions(old, race(samples((2.0,) * 3), fixed=0.2), 0.15) == []


def test_what_nobody_notices_is_no_regression() -> None:
    old, new = race(samples((0.05,) * 3)), race(samples((0.1,) * 3))
    assert find_regressions(old, new, 0.15) == []


def test_rows_that_one_run_lacks_are_left_out() -> None:
    new = race(samples((9.0,) * 3, scenario="heavy-pin"))
    assert find_regressions(OLD, new, 0.15) == []
    assert compared_rows(OLD, new) == []
    wrong = race(samples((9.0,) * 3, verdict=Verdict.WRONG))
    assert compared_rows(OLD, wrong) == []
