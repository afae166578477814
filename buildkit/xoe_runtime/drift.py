"""Drift: how far values of now are from those of a reference, known by counts in bins alone.

No value is kept. Memory is the number of bins, whatever is counted. The statistics are the population stability index
(PSI; Siddiqi, *Credit Risk Scorecards*, 2006) and that of Kolmogorov and Smirnov for two samples (KS).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple, Optional

BINS = 10  # for which the usual limits of PSI hold
DRIFTED = 0.2  # the PSI of a change that counts
_RARE = 3.0902  # standard deviations that chance exceeds once in a thousand times
_NEAR = 1e-6  # how far below a frequent value its lower edge lies, in parts of it


class Sketch(NamedTuple):
    """Counts of values. Bin i holds those above ``edges[i - 1]`` and at most ``edges[i]``; the last has the rest.

    ``total`` is the sum of the values. The edges are ``le`` of a Prometheus histogram.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    @property
    def size(self) -> int:
        """How many values were counted."""
        return sum(self.counts)


class Drift(NamedTuple):
    """What is known of a signal; the statistics are None while there are fewer samples than needed."""

    samples: int
    needed: int
    psi: Optional[float] = None
    ks: Optional[float] = None
    pvalue: Optional[float] = None

    @property
    def state(self) -> str:
        """``too few``, ``drifted`` or ``steady``."""
        if self.psi is None:
            return "too few"
        return "drifted" if self.psi > DRIFTED else "steady"


def make_edges(values: Iterable[float], bins: int = BINS) -> tuple[float, ...]:
    """Return edges of bins that hold about the same number of these values each.

    A value that fills a bin alone gets one of its own, so that its neighbours are no part of it: a sampling rate, or a
    share that is often exactly 0. Raises ValueError without values, or if one is no finite number.
    """
    ordered = sorted(_finite(values))
    if not ordered:
        raise ValueError("there are no values")
    cuts = {ordered[math.ceil(number * len(ordered) / bins) - 1] for number in range(1, bins)}
    often = Counter(ordered)
    edges: set[float] = set()
    for cut in sorted(cuts):
        if often[cut] * bins >= len(ordered):
            edges |= {cut - _NEAR * max(1.0, abs(cut)), cut}
        else:
            edges.add(float(f"{cut:.6g}"))  # short in a file and in a label
    return tuple(sorted(edges))


def make_sketch(values: Iterable[float], edges: Sequence[float]) -> Sketch:
    """Count values in bins. Raises ValueError if one is no finite number."""
    counts, total = [0] * (len(edges) + 1), 0.0
    for value in _finite(values):
        counts[find_bin(edges, value)] += 1
        total += value
    return Sketch(edges=tuple(edges), counts=tuple(counts), total=total)


def find_bin(edges: Sequence[float], value: float) -> int:
    """Return the number of the bin that a value belongs to."""
    return bisect_left(edges, value)


def measure_psi(reference: Sequence[int], seen: Sequence[int]) -> float:
    """Return the population stability index of counts in the same bins; neither may be empty.

    A bin that is empty on one side counts as half a value there.
    """
    before, now = sum(reference), sum(seen)
    terms = []
    for old, new in zip(reference, seen):
        if old or new:
            was, found = max(old, 0.5) / before, max(new, 0.5) / now
            terms.append((found - was) * math.log(found / was))
    return math.fsum(terms)


def measure_ks(reference: Sequence[int], seen: Sequence[int]) -> float:
    """Return the largest distance of the two distribution functions, at the edges of the bins.

    It is that of the values themselves or less: what happens within a bin is not seen.
    """
    before, now = sum(reference), sum(seen)
    return max(abs(old / before - new / now) for old, new in zip(accumulate(reference), accumulate(seen)))


def find_pvalue(distance: float, reference: int, seen: int) -> float:
    """Return how often chance alone brings this distance of two samples of these sizes, or a larger one.

    It is Kolmogorov's limit for many values. With bins it is too large rather than too small.
    """
    return _kolmogorov(distance * math.sqrt(reference * seen / (reference + seen)))


def count_needed(reference: Sequence[int]) -> int:
    """Return how many values must be seen before anything is said about drift.

    Of so many, chance alone makes a PSI above half of ``DRIFTED`` once in a thousand times: PSI of equal distributions
    is the sum of both sizes' reciprocals times chi-squared. Raises ValueError if the reference itself is too small.
    """
    freedom = max(1, sum(1 for count in reference if count) - 1)
    room = DRIFTED / 2 / _chi_squared(freedom)
    size = sum(reference)
    if size < 2 / room:
        raise ValueError(f"{size} values are too few for a reference: {math.ceil(2 / room)} are needed")
    return math.ceil(1 / (room - 1 / size))


def compare(reference: Sketch, seen: Sequence[int]) -> Drift:
    """Compare counts in the bins of a reference with it."""
    samples, needed = sum(seen), count_needed(reference.counts)
    if samples < needed:
        return Drift(samples, needed)
    distance = measure_ks(reference.counts, seen)
    pvalue = find_pvalue(distance, reference.size, samples)
    return Drift(samples, needed, measure_psi(reference.counts, seen), distance, pvalue)


def _finite(values: Iterable[float]) -> list[float]:
    found = [float(value) for value in values]
    if not all(map(math.isfinite, found)):
        raise ValueError("a value is no finite number")
    return found


def _kolmogorov(x: float) -> float:
    """Return the chance that Kolmogorov's distribution exceeds x."""
    if x < 0.2:
        return 1.0
    if x < 1:  # this series converges fast where the other does not
        terms = (math.exp(-(((2 * k - 1) * math.pi / x) ** 2) / 8) for k in range(1, 8))
        return 1 - math.sqrt(2 * math.pi) / x * math.fsum(terms)
    return 2 * math.fsum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 12))


def _chi_squared(freedom: int) -> float:
    """Return the value that chi-squared exceeds once in a thousand times (Wilson and Hilferty 1931)."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + _RARE * math.sqrt(part)) ** 3
