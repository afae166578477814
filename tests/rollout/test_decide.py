"""Decisions: chance is no reason, too few requests hold, and a bad candidate is found."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from buildkit.declare.condition import Check, parse_condition
from buildkit.rollout.confidence import estimate_proportion, estimate_quantile
from buildkit.rollout.decide import Answer, Measured, RolloutAction, RolloutDecision, decide, measure

CONDITION = "error_rate < 1% and p95 < 1.1 * control"


def measured(requests: int, failed: int = 0, *, mean: float = 0.1, seed: int = 1) -> Measured:
    chance = random.Random(seed)
    times = sorted(chance.gauss(mean, mean / 20) for _ in range(requests - failed))
    return Measured(requests=requests, failed=failed, times=tuple(times))


def decision(candidate: Measured, control: Measured, text: str = CONDITION, *, waited: float = 60) -> RolloutDecision:
    return decide(parse_condition(text), candidate, control, waited=waited, after=60)


def at_most(hits: int, count: int, probability: float) -> float:
    return sum(math.comb(count, n) * probability**n * (1 - probability) ** (count - n) for n in range(hits + 1))


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (1, 100), (5, 100), (30, 700), (9, 10), (10, 10)])
def test_bounds_of_a_proportion_are_exact(hits: int, count: int) -> None:
    estimate = estimate_proportion(hits, count, 0.95)
    assert estimate.value == hits / count
    if hits:  # so many or more are improbable below
        assert 1 - at_most(hits - 1, count, estimate.low) == pytest.approx(0.05)
    if hits < count:
        assert at_most(hits, count, estimate.high) == pytest.approx(0.05)
    assert (estimate.low == 0, estimate.high == 1) == (hits == 0, hits == count)


@pytest.mark.parametrize("count", [20, 59, 100, 200])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_bounds_of_a_quantile_are_the_closest_ranks(count: int, share: float) -> None:
    estimate = estimate_quantile([float(rank) for rank in range(1, count + 1)], share, 0.95)
    low = max((rank for rank in range(1, count + 1) if at_most(rank - 1, count, share) <= 0.05), default=0)
    high = min((rank for rank in range(1, count + 1) if at_most(rank - 1, count, share) >= 0.95), default=math.inf)
    if count * min(share, 1 - share) < 25:
        assert (estimate.low, estimate.high) == (low, high)
    else:  # by the normal distribution
        assert abs(estimate.low - low) <= 1
        assert abs(estimate.high - high) <= 1


def test_nothing_is_known_without_requests() -> None:
    assert (estimate_proportion(0, 0, 0.95).low, estimate_proportion(0, 0, 0.95).high) == (0.0, 1.0)
    assert estimate_quantile((), 0.95, 0.95).high == float("inf")
    assert estimate_quantile([1.0] * 58, 0.95, 0.95).high == float("inf")  # 0.95 ** 58 is above 5 %
    assert estimate_quantile([1.0] * 59, 0.95, 0.95).high == 1.0


@pytest.mark.parametrize("count", [100, 400, 2000])
def test_bounds_of_a_quantile_hold_as_often_as_they_say(count: int) -> None:
    chance = random.Random(7)
    samples = [sorted(chance.random() for _ in range(count)) for _ in range(400)]
    found = [estimate_quantile(sample, 0.9, 0.95) for sample in samples]
    assert sum(one.low > 0.9 for one in found) <= 400 * 0.08
    assert sum(one.high < 0.9 for one in found) <= 400 * 0.08
    assert all(one.low <= one.value <= one.high for one in found)


def test_a_good_candidate_is_promoted_when_the_step_is_over() -> None:
    good, control = measured(600), measured(5000, seed=2)
    assert decision(good, control).action is RolloutAction.PROMOTE
    early = decision(good, control, waited=20)
    assert early.action is RolloutAction.HOLD
    assert early.reason.startswith("40 s are left of this step; so far: error_rate 0 % (0 to 0.498 %, 600 requests)")


def test_no_request_and_too_few_requests_hold() -> None:
    control = measured(5000)
    assert decision(measured(0), control).reason == "no request yet: no data is never good"
    few = decision(measured(40), control)
    assert few.action is RolloutAction.HOLD
    assert "40 requests" in few.reason
    assert few.reason.endswith("that may be chance")
    assert decision(measured(600), measured(0)).action is RolloutAction.HOLD  # nothing to compare with


def test_bound_at_the_limit_itself_is_no_reason_to_abort() -> None:
    """What a condition refuses is beyond its limit: here both bounds of a percentile are the limit to the last bit."""
    same = Measured(requests=2000, failed=0, times=(0.25,) * 2000)
    found = decision(same, measured(5000), "p95 < 250ms")
    assert found.action is RolloutAction.HOLD
    slower = dataclasses.replace(same, times=(math.nextafter(0.25, 1),) * 2000)
    assert decision(slower, measured(5000), "p95 < 250ms").action is RolloutAction.ABORT


def test_errors_abort_long_before_the_step_is_over() -> None:
    bad = decision(measured(200, 10), measured(2000), waited=1)
    assert bad.action is RolloutAction.ABORT
    assert "error_rate 5 %" in bad.reason
    assert bad.reason.endswith("asked: error_rate < 1%; that is no chance")
    assert decision(measured(20, 1), measured(2000)).action is RolloutAction.HOLD  # one of twenty may be chance


def test_a_slow_candidate_is_aborted_and_an_equal_one_is_not() -> None:
    slow = decision(measured(800, mean=0.15), measured(5000, seed=2))
    assert slow.action is RolloutAction.ABORT
    assert slow.reason.startswith("p95 ")
    text = "error_rate < control + 2% and p95 < 1.1 * control"
    actions = [decision(measured(500, 2, seed=seed), measured(4000, 20, seed=99 + seed), text) for seed in range(12)]
    assert {one.action for one in actions} == {RolloutAction.PROMOTE}


def test_equal_versions_are_hardly_ever_aborted_however_often_one_looks() -> None:
    chance, aborted = random.Random(3), 0
    checks = parse_condition("error_rate < control + 1%")
    for _ in range(24):
        failed = [chance.random() < 0.02 for _ in range(1000)]
        old = [chance.random() < 0.02 for _ in range(4000)]
        for look in range(100, 1001, 100):
            candidate = Measured(requests=look, failed=sum(failed[:look]), times=())
            control = Measured(requests=4 * look, failed=sum(old[: 4 * look]), times=())
            if decide(checks, candidate, control, waited=0, after=9).action is RolloutAction.ABORT:
                aborted += 1
                break
    assert aborted <= 1


def test_answers_of_another_version_or_an_earlier_step_do_not_count() -> None:
    answers = [Answer(version=one, time=at, seconds=0.1, failed=at == 3) for one in "ab" for at in (1, 2, 3)]
    assert measure(answers, "a", 2) == Measured(requests=2, failed=1, times=(0.1,))


def test_conditions_are_read_with_their_units() -> None:
    assert parse_condition("error_rate  <  0.1% and p99 < 250ms and p50 < 1.2*control + 5 ms") == (
        Check(metric="error_rate", factor=0.0, limit=pytest.approx(0.001), text="error_rate < 0.1%"),
        Check(metric="p99", factor=0.0, limit=0.25, text="p99 < 250ms"),
        Check(metric="p50", factor=1.2, limit=0.005, text="p50 < 1.2*control + 5 ms"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no comparison such as"),
        ("p95 > 1", "is no comparison such as"),
        ("p95 < 1.1 * other", "is no comparison such as"),
        ("speed < 1s", "`speed` is none of error_rate, p50"),
        ("p95 < 10%", "`10%` is no time, such as 200ms"),
        ("p95 < 10", "`10` lacks its unit: ms or s"),
        ("error_rate < 5ms", "`5ms` is no rate, such as 0.1%"),
        ("error_rate < 2 * control", "versions without errors; write `control + 0.5%`"),
        ("p95 < control", "of equal versions; write `1.1 [*] control`"),
    ],
)
def test_a_condition_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        parse_condition(text)
