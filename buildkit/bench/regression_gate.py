"""Check whether we became slower, by ratios within one run, so that runs on different machines are comparable.

Seconds of two runs prove nothing: machines differ, and one machine differs from hour to hour. The gate compares our
median with a peer's in the same row and with the fixed work of the same run. A row is slower only if it is slower by
*every* such reference: a faster peer or a bad hour of the disk is not our doing. It is no slower if *any* reference
says so. If none can tell, because of noise or because there is none, the row is reported as such and does not pass.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from buildkit.bench.calibrate import FIXED
from buildkit.bench.results import Figures, Results, figure, median_calibrations
from buildkit.bench.tables import participant_title, scenario_title
from buildkit.errors import DefinitionError

_LEAST_SECONDS = 0.1  # a smaller difference goes unnoticed
_NOISE = 2.0  # an effect must exceed the spread this many times


class RegressionOutcome(StrEnum):
    """The result for one row."""

    SLOWER = "slower"
    FINE = "no slower"
    NOISY = "too noisy to say"
    UNMET = "not compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """One compared row: ``growth`` is the share by which we grew, by the mildest reference, ``against``.

    ``why`` is the reason if it was not compared.
    """

    until: str
    scenario: str
    outcome: RegressionOutcome = RegressionOutcome.UNMET
    growth: float = 0.0
    against: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """``one light pin until runnable``."""
        return f"{scenario_title(self.scenario)} until {self.until}"

    def __str__(self) -> str:
        return f"{self.name}: {self.growth:.0%} slower, against {self.against}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """By how much everything is slower now, the spread of that factor, and what it was measured against."""

    scale: float
    noise: float
    against: str


def compare_rows(old: Results, new: Results, limit: float) -> list[ComparedRow]:
    """Compare every row of ``new``. Slower means by more than ``limit`` (0.15 is 15 %) and than noise."""
    return [_compare(old, new, ComparedRow(until=until, scenario=scenario), limit) for until, scenario in new.rows()]


def check_workload(old: Results, workload: Mapping[str, Any]) -> None:
    """Raise DefinitionError if ``old`` has another workload than this one (see `Workload.describe`)."""
    old_workload = old.workload
    differences = [
        f"{key} {old_workload.get(key, 'unknown')} then, {value} now"
        for key, value in workload.items()
        if old_workload.get(key) != value
    ]
    if differences:
        raise DefinitionError(
            f"--compare: these are results of another workload: {'; '.join(differences)}",
            hint="race the same --workload and --stage, or race the old commit with this one: ci/bench COMMIT",
        )


def _compare(old: Results, new: Results, row: ComparedRow, limit: float) -> ComparedRow:
    ours = next(iter(new.participants))
    cell = (row.until, row.scenario, ours)
    before, after = figure(old.of(*cell)), figure(new.of(*cell))
    if ours not in old.participants:
        return replace(row, why=f"the old results have no {ours} (but {', '.join(old.participants)})")
    if not old.of(*cell):
        return replace(row, why="the old results have no such row")
    if before is None or after is None:
        when = "now" if before else "then" if after else "then, nor now"
        return replace(row, why=f"we did not build it right {when}")
    measures = list(_measures(old, new, row))
    if not measures:
        return replace(row, why=f"neither fixed work nor a peer of the same version ({_format_peers(old, new)})")
    judged = [_judge(row, before, after, measure, limit) for measure in measures]
    mildest = min(judged, key=lambda candidate: candidate.growth)
    fine = any(candidate.outcome is RegressionOutcome.FINE for candidate in judged)
    return replace(mildest, outcome=RegressionOutcome.FINE) if fine else mildest


def _judge(row: ComparedRow, before: Figures, after: Figures, measure: _Reference, limit: float) -> ComparedRow:
    expected = before.median * measure.scale  # what the machine alone explains
    growth = after.median / expected - 1
    spread = _NOISE * (before.spread + after.spread + measure.noise)
    allowed = max(limit, _LEAST_SECONDS / expected)
    if growth > max(allowed, spread):
        outcome = RegressionOutcome.SLOWER
    elif growth <= allowed and min(spread, growth + spread) <= allowed:
        outcome = RegressionOutcome.FINE
    else:
        outcome = RegressionOutcome.NOISY  # noise could hide the effect
    return replace(row, outcome=outcome, growth=growth, against=measure.against)


def _measures(old: Results, new: Results, row: ComparedRow) -> Iterator[_Reference]:
    ours = next(iter(new.participants))
    for peer, version in new.participants.items():
        before, after = (figure(results.of(row.until, row.scenario, peer)) for results in (old, new))
        same = old.participants.get(peer) == version  # a peer of another version is not a reference
        if peer != ours and before and after and same:
            yield _Reference(
                scale=after.median / before.median, noise=before.spread + after.spread, against=participant_title(peer)
            )
    fixed = _fixed(old, new)
    if fixed:
        yield _Reference(scale=fixed, noise=0.0, against="fixed work")


def _format_peers(old: Results, new: Results) -> str:
    ours = next(iter(new.participants))
    names = [name for name in dict.fromkeys((*old.participants, *new.participants)) if name != ours]
    then, now = old.participants, new.participants
    peers = (
        f"{participant_title(name)} "
        + ", ".join(f"{versions[name]} {when}" for versions, when in ((then, "then"), (now, "now")) if name in versions)
        for name in names
    )
    return "; ".join(peers) or "no peer raced"


def _fixed(old: Results, new: Results) -> float:
    before, after = median_calibrations(old), median_calibrations(new)
    shared = [after[name] / before[name] for name in FIXED if name in after and before.get(name)]
    return statistics.geometric_mean(shared) if shared else 0.0
