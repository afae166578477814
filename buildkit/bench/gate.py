"""Did we become slower? Decided by ratios within one run, so that runs on other machines can be compared.

Seconds of two runs say nothing: machines differ, and so does the same machine at another hour. What is compared is
our median over that of a peer in the same row, and over the fixed work of the same run. A row fails only if we are
slower by *every* such measure: a peer that became faster, or a disk that had a bad hour, is not our doing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.bench.calibrate import FIXED
from buildkit.bench.results import Results, figure, median_calibrations
from buildkit.bench.tables import say_scenario

_LEAST_SECONDS = 0.1  # what nobody notices is no regression
_NOISE = 2.0  # how many times the spread an effect must be


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """A row in which we became slower: by which share, by the mildest of the measures, whose name is ``against``."""

    until: str
    scenario: str
    growth: float
    against: str

    def __str__(self) -> str:
        return f"{say_scenario(self.scenario)} until {self.until}: {self.growth:.0%} slower, against {self.against}"


def find_regressions(old: Results, new: Results, limit: float) -> list[Regression]:
    """Rows of both runs in which we are slower by more than ``limit`` (0.15 is 15 %) and by more than noise."""
    found = (_compare(old, new, until, scenario, limit) for until, scenario in new.rows())
    return [regression for regression in found if regression]


def compared_rows(old: Results, new: Results) -> list[tuple[str, str]]:
    """Rows that can be compared at all: ours is right in both."""
    ours = next(iter(new.participants))
    return [row for row in new.rows() if figure(new.of(*row, ours)) and figure(old.of(*row, ours))]


def _compare(old: Results, new: Results, until: str, scenario: str, limit: float) -> Regression | None:
    ours = next(iter(new.participants))
    before, after = figure(old.of(until, scenario, ours)), figure(new.of(until, scenario, ours))
    if before is None or after is None:
        return None
    measures = list(_measures(old, new, until, scenario))
    if not measures:
        return None
    scale, noise, against = max(measures)  # what the machine alone explains, by the mildest measure
    growth = after.median / (before.median * scale) - 1
    slower = after.median - before.median * scale
    spread = _NOISE * (before.spread + after.spread + noise)
    if growth <= max(limit, spread) or slower <= _LEAST_SECONDS:
        return None
    return Regression(until=until, scenario=scenario, growth=growth, against=against)


def _measures(old: Results, new: Results, until: str, scenario: str) -> Iterator[tuple[float, float, str]]:
    """By how much slower everything is now, the spread of that, and by what it was measured."""
    ours = next(iter(new.participants))
    for peer in new.participants:
        before, after = figure(old.of(until, scenario, peer)), figure(new.of(until, scenario, peer))
        if peer != ours and before and after and _same(old, new, peer):
            yield after.median / before.median, before.spread + after.spread, peer
    fixed = _fixed(old, new)
    if fixed:
        yield fixed, 0.0, "fixed work"


def _same(old: Results, new: Results, peer: str) -> bool:
    """A peer of another version is no measure."""
    return old.participants.get(peer) == new.participants[peer]


def _fixed(old: Results, new: Results) -> float:
    before, after = median_calibrations(old), median_calibrations(new)
    shared = [after[name] / before[name] for name in FIXED if name in after and before.get(name)]
    return statistics.geometric_mean(shared) if shared else 0.0
