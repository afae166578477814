"""Conditions of a promotion: ``error_rate < 0.1% and p95 < 1.1 * control``. Text to value."""

from __future__ import annotations

import re
from dataclasses import dataclass

METRICS = ("error_rate", "p50", "p90", "p95", "p99")
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?)"
_LIMIT = rf"{_NUMBER}\s*(?:%|ms|s)?"
_CHECK = re.compile(
    rf"(?P<metric>[a-z][a-z0-9_]*)\s*<\s*"
    rf"(?:(?:(?P<factor>{_NUMBER})\s*\*\s*)?(?P<control>control)(?:\s*\+\s*(?P<margin>{_LIMIT}))?|(?P<limit>{_LIMIT}))"
)
_PARTS = re.compile(rf"(?P<number>{_NUMBER})\s*(?P<unit>%|ms|s)?")
_UNITS = {"%": 0.01, "ms": 0.001, "s": 1.0, None: 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison: ``metric < factor * control + limit``; without control (``factor`` 0) the limit alone.

    Times are seconds, rates numbers from 0 to 1. ``text`` is how it was written.
    """

    metric: str
    factor: float
    limit: float
    text: str


def parse_condition(text: str) -> tuple[Check, ...]:
    """Parse comparisons joined by ``and``. Raises ValueError with what is wrong."""
    return tuple(_parse_check(part.strip()) for part in re.split(r"\s+and\s+", text.strip()))


def _parse_check(text: str) -> Check:
    found = _CHECK.fullmatch(text)
    if found is None:
        raise ValueError(f"`{text}` is no comparison such as `error_rate < 0.1%` or `p95 < 1.1 * control`")
    metric = found["metric"]
    if metric not in METRICS:
        raise ValueError(f"`{metric}` is none of {', '.join(METRICS)}")
    factor = float(found["factor"] or 1) if found["control"] else 0.0
    limit = _parse_limit(found["margin"] or found["limit"] or "0", metric)
    if metric == "error_rate" and found["control"] and not limit:
        raise ValueError(f"`{text}`: nobody can show that of versions without errors; write `control + 0.5%`")
    if factor and factor <= 1 and not limit:
        raise ValueError(f"`{text}`: nobody can show that of equal versions; write `1.1 * control`")
    return Check(metric=metric, factor=factor, limit=limit, text=" ".join(text.split()))


def _parse_limit(text: str, metric: str) -> float:
    found = _PARTS.fullmatch(text)
    assert found is not None  # noqa: S101 - the pattern of a check holds this one
    is_rate = metric == "error_rate"
    number, unit = float(found["number"]), found["unit"]
    if number and (unit == "%" if not is_rate else unit in ("ms", "s")):
        raise ValueError(f"`{text}` is no {'rate, such as 0.1%' if is_rate else 'time, such as 200ms'}")
    if number and not is_rate and unit is None:
        raise ValueError(f"`{text}` lacks its unit: ms or s")
    return number * _UNITS[unit]
