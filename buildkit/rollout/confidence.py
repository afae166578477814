"""Bounds of what was measured: what the true value is not beyond, with a given confidence.

Bounds of a proportion are Clopper and Pearson's (1934), exact for any number. Those of a quantile are order
statistics, which assume nothing about the distribution (David and Nagaraja, 2003, section 7.1). Bounds of a difference
are recovered from those of its parts (MOVER: Zou and Donner, 2008; of proportions: Newcombe, 1998).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

_HALVINGS = 50
_NORMAL_FROM = 25  # expected requests beyond a quantile from which the normal distribution is close enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A measured value with its lower and upper bound, each by itself with the confidence that was asked for."""

    value: float
    low: float
    high: float

    def minus(self, other: Estimate, factor: float) -> Estimate:
        """Return the estimate of this value less ``factor`` times an independent one."""
        if not all(map(math.isfinite, (self.high, other.high, self.low, other.low))):
            return Estimate(value=self.value - factor * other.value, low=-math.inf, high=math.inf)
        value = self.value - factor * other.value
        below = math.hypot(self.value - self.low, factor * (other.high - other.value))
        above = math.hypot(self.high - self.value, factor * (other.value - other.low))
        return Estimate(value=value, low=value - below, high=value + above)


def estimate_proportion(hits: int, count: int, confidence: float) -> Estimate:
    """Return the proportion of ``hits`` among ``count``; nothing is known of none."""
    if not count:
        return Estimate(value=0.0, low=0.0, high=1.0)
    rest = 1 - confidence
    low = _solve(lambda p: 1 - _binomial_cdf(hits - 1, count, p) < rest) if hits else 0.0
    high = _solve(lambda p: _binomial_cdf(hits, count, p) > rest) if hits < count else 1.0
    return Estimate(value=hits / count, low=low, high=high)


def estimate_quantile(values: Sequence[float], share: float, confidence: float) -> Estimate:
    """Return a quantile (0.95: 95th percentile) of sorted values; bounds that they do not give are 0 or infinite."""
    count = len(values)
    if not count:
        return Estimate(value=0.0, low=0.0, high=math.inf)
    low, high = _ranks(count, share, 1 - confidence)
    return Estimate(
        value=values[min(math.ceil(count * share), count) - 1],
        low=values[low - 1] if low >= 1 else 0.0,
        high=values[high - 1] if high <= count else math.inf,
    )


def _ranks(count: int, share: float, rest: float) -> tuple[int, int]:
    """Return the ranks (from 1) below and above which the quantile lies with probability ``rest`` at most."""
    if count * min(share, 1 - share) >= _NORMAL_FROM:
        spread = NormalDist().inv_cdf(1 - rest) * math.sqrt(count * share * (1 - share))
        return math.floor(count * share - spread), math.ceil(count * share + spread) + 1
    # as many values lie below the quantile as a binomial variable says, which grows with the rank
    low = bisect_right(range(count), rest, key=lambda rank: _binomial_cdf(rank, count, share))
    high = bisect_left(range(count), 1 - rest, key=lambda rank: _binomial_cdf(rank, count, share)) + 1
    return low, high


def _solve(is_below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def _binomial_cdf(most: int, count: int, probability: float) -> float:
    """Return the probability of at most ``most`` hits among ``count``."""
    if most < 0:
        return 0.0
    if most >= count or probability <= 0:
        return 1.0
    if probability >= 1:
        return 0.0
    odds = math.log(probability) - math.log1p(-probability)
    term = count * math.log1p(-probability)
    terms = [term]
    for hits in range(1, most + 1):
        term += math.log((count - hits + 1) / hits) + odds
        terms.append(term)
    largest = max(terms)
    return min(1.0, math.exp(largest) * math.fsum(math.exp(one - largest) for one in terms))
