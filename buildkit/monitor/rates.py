"""What a container does in a second: two looks at its counters, compared. Pure; the clock is given."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.monitor.usage import CgroupUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageAt:
    """A look: what a container used so far, and when, in seconds of a clock that is never set back (CLOCK_MONOTONIC).

    ``oom_kills`` counts processes that the kernel killed because memory was missing, since the first look.
    """

    at: float
    usage: CgroupUsage
    oom_kills: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRates:
    """Rates between two looks: ``cpu`` in CPUs, ``throttled`` the share of periods (0 to 1), the rest bytes a second.

    None: not known yet, or the counters began anew.
    """

    cpu: float | None = None
    throttled: float | None = None
    read: float | None = None
    written: float | None = None
    received: float | None = None
    sent: float | None = None


def look(at: float, usage: CgroupUsage, before: UsageAt | None) -> UsageAt:
    """Return a look that continues the count of kills; counters that went back are those of a container begun anew."""
    kills = usage.oom_kills
    if kills is None or before is None:
        return UsageAt(at=at, usage=usage, oom_kills=None if kills is None else 0)
    last = before.usage.oom_kills or 0
    more = kills - last if kills >= last else kills
    return UsageAt(at=at, usage=usage, oom_kills=(before.oom_kills or 0) + more)


def rates(before: UsageAt | None, now: UsageAt) -> UsageRates:
    """Return the rates between two looks; none if no time passed."""
    seconds = now.at - before.at if before else 0.0
    if before is None or seconds <= 0:
        return UsageRates()
    old, new = before.usage, now.usage
    periods, throttled = _growth(old.periods, new.periods), _growth(old.throttled, new.throttled)
    return UsageRates(
        cpu=_rate(old.cpu_seconds, new.cpu_seconds, seconds),
        throttled=None if periods is None or throttled is None else min(1.0, throttled / periods) if periods else 0.0,
        read=_rate(old.read, new.read, seconds),
        written=_rate(old.written, new.written, seconds),
        received=_rate(old.received, new.received, seconds),
        sent=_rate(old.sent, new.sent, seconds),
    )


def _rate(old: float | None, new: float | None, seconds: float) -> float | None:
    grown = _growth(old, new)
    return None if grown is None else grown / seconds


def _growth(old: float | None, new: float | None) -> float | None:
    return None if old is None or new is None or new < old else new - old
