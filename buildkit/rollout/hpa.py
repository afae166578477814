"""How many replicas a load needs, as Kubernetes' HorizontalPodAutoscaler (autoscaling/v2) computes it.

After pkg/controller/podautoscaler/{horizontal,replica_calculator}.go: ratio and tolerance, then stabilisation windows,
then policies, then the range. Times are seconds of any clock that only grows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_ENDLESS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """At most ``value`` replicas (``kind`` is ``Pods``) or per cent (``Percent``) in ``period`` seconds."""

    kind: str
    value: int
    period: int = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRules:
    """How fast replicas come or go in one direction.

    ``window`` are the seconds whose most careful recommendation counts. Of several policies, the one that allows most
    (``select`` is ``Max``) or least (``Min``) counts; ``Disabled`` allows nothing.
    """

    window: int
    policies: tuple[ScalingPolicy, ...]
    select: str = "Max"
    tolerance: float = 0.1


UP = ScalingRules(window=0, policies=(ScalingPolicy(kind="Pods", value=4), ScalingPolicy(kind="Percent", value=100)))
DOWN = ScalingRules(window=300, policies=(ScalingPolicy(kind="Percent", value=100),))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleEvent:
    """At a time, a change by ``replicas`` (negative: fewer), or a recommendation of so many."""

    time: float
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleHistory:
    """What was recommended and done recently."""

    recommended: tuple[ScaleEvent, ...] = ()
    done: tuple[ScaleEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaBounds:
    """The fewest and the most replicas, and the rules between them."""

    least: int
    most: int
    up: ScalingRules = UP
    down: ScalingRules = DOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSample:
    """A metric's sum over all replicas, and how much of it one replica should have."""

    total: float
    target: float


def recommend(current: int, loads: Iterable[LoadSample], bounds: ReplicaBounds) -> int:
    """Return the replicas that the largest load needs; ``current`` if it is close to what there is, or unknown."""
    wanted = [_replicas_for(current, load, bounds) for load in loads]
    return max(wanted, default=current)


def _replicas_for(current: int, load: LoadSample, bounds: ReplicaBounds) -> int:
    ratio = load.total / (load.target * current) if current else math.inf
    if 1 - bounds.down.tolerance <= ratio <= 1 + bounds.up.tolerance:
        return current
    return math.ceil(load.total / load.target)


def next_replicas(
    current: int, wanted: int, history: ScaleHistory, bounds: ReplicaBounds, now: float
) -> tuple[int, ScaleHistory]:
    """Return how many replicas to have now, and the history with this step.

    Replicas out of the range are brought into it at once, as HPA does before it asks for metrics.
    """
    if not bounds.least <= current <= bounds.most:
        return min(max(current, bounds.least), bounds.most), history
    history = ScaleHistory(recommended=_until(now, history.recommended), done=_until(now, history.done))
    stable = stabilise(current, wanted, history.recommended, bounds, now)
    chosen = limit_rate(current, stable, history.done, bounds, now)
    change = ScaleEvent(time=now, replicas=chosen - current)
    recommended = _since(
        now - max(bounds.up.window, bounds.down.window), (*history.recommended, ScaleEvent(time=now, replicas=wanted))
    )
    done = _since(now - _longest(bounds), (*history.done, *([change] if change.replicas else [])))
    return chosen, replace(history, recommended=recommended, done=done)


def stabilise(current: int, wanted: int, recommended: Iterable[ScaleEvent], bounds: ReplicaBounds, now: float) -> int:
    """Return the recommendation that held for the whole window of its direction (stabilizeRecommendation…)."""
    up = down = wanted
    for event in recommended:
        if event.time > now - bounds.up.window:
            up = min(event.replicas, up)
        if event.time > now - bounds.down.window:
            down = max(event.replicas, down)
    return min(max(current, up), down)


def limit_rate(current: int, wanted: int, done: Sequence[ScaleEvent], bounds: ReplicaBounds, now: float) -> int:
    """Return what policies and range allow of ``wanted`` (convertDesiredReplicasWithBehaviorRate)."""
    if wanted > current:
        allowed = max(_limit(current, done, bounds.up, now, sign=1), current)
        return min(wanted, allowed, bounds.most)
    if wanted < current:
        allowed = min(_limit(current, done, bounds.down, now, sign=-1), current)
        return max(wanted, allowed, bounds.least)
    return wanted


def _limit(current: int, done: Sequence[ScaleEvent], rules: ScalingRules, now: float, *, sign: int) -> int:
    """Return the most (``sign`` 1) or the fewest (-1) replicas that the policies of a direction allow."""
    if rules.select == "Disabled":
        return current
    proposed = []
    for policy in rules.policies:
        start = current - sum(event.replicas for event in done if event.time > now - policy.period)
        if policy.kind == "Pods":
            proposed.append(start + sign * policy.value)
        else:
            exact = start * (1 + sign * policy.value / 100)
            proposed.append(math.ceil(exact) if sign > 0 else math.trunc(exact))
    most = rules.select != "Min"
    choose = max if most == (sign > 0) else min
    return choose(proposed, default=_ENDLESS if sign > 0 else 0)


def _longest(bounds: ReplicaBounds) -> int:
    return max((policy.period for rules in (bounds.up, bounds.down) for policy in rules.policies), default=0)


def _since(start: float, events: Iterable[ScaleEvent]) -> tuple[ScaleEvent, ...]:
    return tuple(event for event in events if event.time > start)


def _until(now: float, events: Iterable[ScaleEvent]) -> tuple[ScaleEvent, ...]:
    """Return the events that are not of the future, as those of before a clock that was set back are."""
    return tuple(event for event in events if event.time <= now)
