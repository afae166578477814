"""Whether a candidate gets more users, keeps those that it has, or loses them, and why.

A comparison is met or failed only if that is no chance: bounds say so with 95 % confidence for a promotion, which is
decided once a step, and with 99.9 % for an abort, for which every look counts. Everything else is *hold*: too few
requests show nothing, and no data is never good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from buildkit.declare.condition import Check
from buildkit.rollout.confidence import Estimate, estimate_proportion, estimate_quantile

MET_CONFIDENCE, FAILED_CONFIDENCE = 0.95, 0.999


class RolloutAction(StrEnum):
    """What follows for the candidate."""

    PROMOTE = "promote"
    HOLD = "hold"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of a version: seconds since the epoch, how long it took, and whether it failed (5xx, or none)."""

    version: str
    time: float
    seconds: float
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a version did: requests, failed ones, and sorted times in seconds."""

    requests: int
    failed: int
    times: tuple[float, ...]

    def estimate(self, metric: str, confidence: float) -> Estimate:
        """Return ``error_rate`` or a percentile with its bounds."""
        if metric == "error_rate":
            return estimate_proportion(self.failed, self.requests, confidence)
        return estimate_quantile(self.times, int(metric[1:]) / 100, confidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDecision:
    """What to do, and why, in words that name the statistics."""

    action: RolloutAction
    reason: str


def measure(answers: Iterable[Answer], version: str, since: float) -> Measured:
    """Return what a version did since a time; failed answers have no time that counts."""
    own = [one for one in answers if one.version == version and one.time >= since]
    times = sorted(one.seconds for one in own if not one.failed)
    return Measured(requests=len(own), failed=sum(one.failed for one in own), times=tuple(times))


def decide(
    checks: Sequence[Check], candidate: Measured, control: Measured, *, waited: float, after: float
) -> RolloutDecision:
    """Decide after ``waited`` seconds of a step that lasts ``after``."""
    for check in checks:
        estimate = _margin(check, candidate, control, FAILED_CONFIDENCE)
        if candidate.requests and estimate.low > check.limit:
            reason = f"{_describe(check, candidate, control, FAILED_CONFIDENCE)}; that is no chance"
            return RolloutDecision(action=RolloutAction.ABORT, reason=reason)
    if not candidate.requests:
        return RolloutDecision(action=RolloutAction.HOLD, reason="no request yet: no data is never good")
    for check in checks:
        if not _margin(check, candidate, control, MET_CONFIDENCE).high < check.limit:
            reason = f"{_describe(check, candidate, control, MET_CONFIDENCE)}; that may be chance"
            return RolloutDecision(action=RolloutAction.HOLD, reason=reason)
    met = "; ".join(_describe(check, candidate, control, MET_CONFIDENCE) for check in checks)
    if waited < after:
        return RolloutDecision(
            action=RolloutAction.HOLD, reason=f"{after - waited:.0f} s are left of this step; so far: {met}"
        )
    return RolloutDecision(action=RolloutAction.PROMOTE, reason=met)


def _margin(check: Check, candidate: Measured, control: Measured, confidence: float) -> Estimate:
    """Return the candidate's value less what of the control's it is compared with."""
    own = candidate.estimate(check.metric, confidence)
    return own.minus(control.estimate(check.metric, confidence), check.factor) if check.factor else own


def _describe(check: Check, candidate: Measured, control: Measured, confidence: float) -> str:
    """Return a comparison in words: ``error_rate 5.1 % (3.2 to 7.9 %, 412 requests), asked: < 0.1 %``."""
    parts = [_format(check.metric, candidate, confidence)]
    if check.factor:
        parts.append(f"control {_format(check.metric, control, confidence)}")
    return f"{check.metric} {', '.join(parts)} with {confidence:.1%} confidence, asked: {check.text}"


def _format(metric: str, measured: Measured, confidence: float) -> str:
    estimate = measured.estimate(metric, confidence)
    scale, unit = (100, "%") if metric == "error_rate" else (1000, "ms")
    value, low, high = (number * scale for number in (estimate.value, estimate.low, estimate.high))
    return f"{value:.3g} {unit} ({low:.3g} to {high:.3g} {unit}, {measured.requests} requests)"
