"""Scaling against the vectors of Kubernetes' own tests (horizontal_test.go), and a day with a clock of its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from buildkit.rollout.hpa import (
    DOWN,
    UP,
    LoadSample,
    ReplicaBounds,
    ScaleEvent,
    ScaleHistory,
    ScalingPolicy,
    ScalingRules,
    limit_rate,
    next_replicas,
    recommend,
    stabilise,
)

NOW = 10_000.0


def events(changes: list[int], period: int, sign: int = 1) -> tuple[ScaleEvent, ...]:
    """As generateEventsUniformDistribution spreads them: within the period."""
    step = period / (len(changes) + 1)
    return tuple(
        ScaleEvent(time=NOW - step * (number + 1), replicas=sign * change) for number, change in enumerate(changes)
    )


def rules(pods: int | None, percent: int | None, period: int = 60, *, select: str = "Max") -> ScalingRules:
    policies = []
    if pods is not None:
        policies.append(ScalingPolicy(kind="Pods", value=pods, period=period))
    if percent is not None:
        policies.append(ScalingPolicy(kind="Percent", value=percent, period=period))
    return ScalingRules(window=0, policies=tuple(policies), select=select)


# TestScalingWithRules: least, most, pods, percent, period, events, current, desired, expected
UPWARD = [
    pytest.param(1, 1000, 4, 100, 60, (), 0, 500, 4, id="from nothing by pods"),
    pytest.param(1, 1000, 4, 100, 60, (), 100, 500, 200, id="default change"),
    pytest.param(1, 1000, 100, 10, 60, (), 10, 500, 110, id="pods allow more than per cent"),
    pytest.param(1, 1000, 10, 100, 60, (), 100, 500, 200, id="per cent allow more than pods"),
    pytest.param(1, 20, 100, None, 60, (), 10, 500, 20, id="most, despite pods"),
    pytest.param(1, 20, None, 10000, 60, (), 10, 500, 20, id="most, despite per cent"),
    pytest.param(1, 1000, 100, None, 60, (), 10, 50, 50, id="within pods"),
    pytest.param(1, 1000, None, 10000, 60, (), 10, 50, 50, id="within per cent"),
    pytest.param(1, 1000, 30, None, 60, (), 10, 50, 40, id="limited by pods"),
    pytest.param(1, 1000, None, 200, 60, (), 10, 50, 30, id="limited by per cent"),
    pytest.param(1, 1000, 4, 100, 60, (1, 2, 3, 4, 5), 100, 500, 170, id="(100 - 15) + 100 %"),
    pytest.param(1, 200, 300, None, 60, (1, 5, 9), 100, 500, 200, id="200 < 100 - 15 + 300"),
    pytest.param(1, 200, None, 10000, 60, (1, 5, 9), 100, 500, 200, id="most, with events"),
    pytest.param(1, 1000, 5, 0, 120, (1, 5, 9), 100, 500, 100, id="never below the present number"),
    pytest.param(1, 1000, 150, None, 120, (1, 5, 9), 100, 500, 235, id="100 - 15 + 150"),
    pytest.param(1, 1000, None, 200, 120, (1, 5, 9), 100, 500, 255, id="(100 - 15) + 200 %"),
    pytest.param(1, 1000, None, 1, 60, (), 1, 10, 2, id="per cent are rounded up"),
]
DOWNWARD = [
    pytest.param(1, 1000, None, 100, 60, (), 10, 5, 5, id="default constraint"),
    pytest.param(1, 1000, 100, None, 60, (), 10, 0, 1, id="least, despite pods"),
    pytest.param(5, 1000, None, 100, 60, (), 10, 2, 5, id="least, despite per cent"),
    pytest.param(1, 1000, 5, None, 60, (), 10, 2, 5, id="limited by pods"),
    pytest.param(1, 1000, None, 50, 60, (), 10, 5, 5, id="limited by per cent"),
    pytest.param(1, 1000, 115, None, 120, (1, 5, 9), 100, 0, 1, id="least, with events"),
    pytest.param(5, 1000, 130, None, 120, (1, 5, 9), 100, 0, 5, id="least of 5, with events"),
    pytest.param(1, 1000, 5, None, 120, (1, 5, 9), 100, 2, 100, id="100 + 15 - 5 keeps 100"),
    pytest.param(1, 1000, None, 50, 120, (2, 4, 6), 100, 0, 56, id="(100 + 12) - 50 %"),
    pytest.param(1, 1000, None, 10, 120, (10, 10, 10), 100, 0, 100, id="(100 + 30) - 10 % keeps 100"),
    pytest.param(1, 1000, None, 1000, 120, (10, 10, 10), 10, 5, 5, id="(10 + 30) - 1000 % is below 0"),
]


@pytest.mark.parametrize(
    ("least", "most", "pods", "percent", "period", "changes", "current", "wanted", "right"), UPWARD
)
def test_upward_vectors_of_kubernetes(
    least: int,
    most: int,
    pods: int | None,
    percent: int | None,
    period: int,
    changes: tuple[int, ...],
    current: int,
    wanted: int,
    right: int,
) -> None:
    bounds = ReplicaBounds(least=least, most=most, up=rules(pods, percent, period))
    assert limit_rate(current, wanted, events(list(changes), period), bounds, NOW) == right


@pytest.mark.parametrize(
    ("least", "most", "pods", "percent", "period", "changes", "current", "wanted", "right"), DOWNWARD
)
def test_downward_vectors_of_kubernetes(
    least: int,
    most: int,
    pods: int | None,
    percent: int | None,
    period: int,
    changes: tuple[int, ...],
    current: int,
    wanted: int,
    right: int,
) -> None:
    bounds = ReplicaBounds(least=least, most=most, down=rules(pods, percent, period))
    assert limit_rate(current, wanted, events(list(changes), period, -1), bounds, NOW) == right


def test_the_policy_that_changes_least_or_none() -> None:
    bounds = ReplicaBounds(least=1, most=1000, down=rules(20, 1, select="Min"))
    assert limit_rate(100, 2, (), bounds, NOW) == 99
    assert limit_rate(100, 2, (), replace(bounds, down=rules(2, 10, select="Min")), NOW) == 98
    assert limit_rate(100, 2, (), replace(bounds, down=rules(2, 10, select="Disabled")), NOW) == 100
    up = ReplicaBounds(least=1, most=1000, up=rules(5, 100, select="Min"))
    assert limit_rate(100, 500, (), up, NOW) == 105
    assert limit_rate(100, 500, (), replace(up, up=rules(5, 100, select="Disabled")), NOW) == 100


# TestNormalizeDesiredReplicas…: recommendations by age in minutes, window, current, wanted, expected
@pytest.mark.parametrize(
    ("ages", "window", "current", "wanted", "right"),
    [
        ({}, 300, 100, 5, 5),
        ({2: 4, 1: 5}, 300, 100, 3, 5),
        ({2: 4, 1: 5}, 150, 1, 7, 4),
        ({2: 1, 1: 2}, 300, 100, 3, 3),
        ({2: 4, 1: 5}, 150, 1, 3, 3),
        ({10: 10, 9: 9}, 300, 100, 3, 3),
        ({10: 10, 9: 9}, 60, 1, 100, 100),
    ],
)
def test_stabilisation_vectors_of_kubernetes(
    ages: dict[int, int], window: int, current: int, wanted: int, right: int
) -> None:
    recommended = [ScaleEvent(time=NOW - 60 * age, replicas=replicas) for age, replicas in ages.items()]
    bounds = ReplicaBounds(least=1, most=1000, up=replace(UP, window=window), down=replace(DOWN, window=window))
    assert stabilise(current, wanted, recommended, bounds, NOW) == right


@pytest.mark.parametrize(
    ("current", "total", "right"),
    [(3, 30, 3), (3, 32.9, 3), (3, 33.1, 4), (3, 27.1, 3), (3, 26.9, 3), (3, 20, 2), (1, 0, 0), (0, 5, 1), (10, 11, 2)],
)
def test_ratio_and_tolerance(current: int, total: float, right: int) -> None:
    bounds = ReplicaBounds(least=1, most=50)
    assert recommend(current, [LoadSample(total=total, target=10)], bounds) == right


def test_the_largest_of_several_metrics_counts_and_none_changes_nothing() -> None:
    bounds = ReplicaBounds(least=1, most=50)
    loads = [LoadSample(total=10, target=10), LoadSample(total=400, target=50)]
    assert recommend(4, loads, bounds) == 8
    assert recommend(4, [], bounds) == 4


def test_out_of_the_range_is_mended_at_once() -> None:
    bounds = ReplicaBounds(least=2, most=5)
    assert next_replicas(0, 1, ScaleHistory(), bounds, NOW)[0] == 2
    assert next_replicas(9, 9, ScaleHistory(), bounds, NOW)[0] == 5


def test_what_was_done_before_the_clock_was_set_back_holds_up_nothing() -> None:
    ahead = NOW + 86_400
    history = ScaleHistory(
        recommended=(ScaleEvent(time=ahead, replicas=9),), done=(ScaleEvent(time=ahead, replicas=4),)
    )
    bounds = ReplicaBounds(least=1, most=10)
    assert next_replicas(9, 1, history, bounds, NOW)[0] == 1
    assert next_replicas(4, 8, history, bounds, NOW)[0] == 8
    after = next_replicas(9, 1, history, bounds, NOW)[1]
    assert {event.time for event in (*after.recommended, *after.done)} == {NOW}


def test_a_day_of_load_is_followed_without_flapping() -> None:
    bounds = ReplicaBounds(least=1, most=10)
    history, replicas, seen = ScaleHistory(), 1, []
    loads = [2] * 20 + [50] * 40 + [38, 46] * 40 + [3] * 60  # one each 15 s; 5 a replica
    for tick, load in enumerate(loads):
        wanted = recommend(replicas, [LoadSample(total=load, target=5)], bounds)
        replicas, history = next_replicas(replicas, wanted, history, bounds, 15.0 * tick)
        seen.append(replicas)
    assert seen[:20] == [1] * 20
    assert seen[20:23] == [5, 10, 10]  # four more at once, then double
    assert set(seen[60:140]) == {10}  # 38 and 46 need 8 and 10: the window keeps 10
    changes = [after - before for before, after in pairwise(seen) if before != after]
    assert changes == [4, 5, -9]
    assert seen.index(1, 140) - 139 == 300 / 15  # five minutes after the last high recommendation
    assert len(history.recommended) <= 300 / 15
