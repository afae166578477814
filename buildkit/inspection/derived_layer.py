"""What a layer of a derived model is made from, and what was measured of it: by its lock, and on this host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from buildkit.digest import Key
from buildkit.locks.derivation import Derivation
from buildkit.plan.derive_report import DeriveReport, describe_report, format_time
from buildkit.plan.spec import PackModel, Spec
from buildkit.report.text import format_date
from buildkit.store.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedModel:
    """How a model was derived; ``report`` is what this host measured, at ``at`` (seconds), None if another host did."""

    derivation: Derivation
    report: DeriveReport | None = None
    at: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the fields that docs/models.md describes."""
        return {
            "from": self.derivation.of,
            "tool": self.derivation.tool,
            "options": self.derivation.settings,
            "locked": dict(self.derivation.report),
            "measured": {**self.report.as_json(), "at": self.at} if self.report else None,
        }


def find_derived(ledger: Ledger, spec: Spec) -> DerivedModel | None:
    """Return how the model of a layer was derived; None for every other layer."""
    model = spec.work.model if isinstance(spec.work, PackModel) else None
    if model is None or model.derivation is None or model.origin is None:
        return None
    found = ledger.derivations.find(Key(model.origin.key.hex))
    report = None
    if found is not None:
        with suppress(KeyError, TypeError, ValueError, AttributeError):  # of a version with other fields
            report = DeriveReport.from_json(found[0])
    return DerivedModel(derivation=model.derivation, report=report, at=found[1] if found else 0.0)


def describe_derived(derived: DerivedModel) -> Iterator[str]:
    """Yield lines: the source and the tool, what the lock says, and what was measured here."""
    of = derived.derivation
    yield f"derived from {of.of} by {of.tool} {of.options if of.settings else ''}".rstrip()
    if of.report:
        yield "locked: " + ", ".join(f"{name} {value}" for name, value in of.report)
    if (report := derived.report) is not None:
        times = f"{format_time(report.source.latency)} → {format_time(report.derived.latency)} a call"
        latency = f" ({times}, {report.threads} threads)" if report.latency_ratio is not None else ""
        yield f"measured {format_date(derived.at)} on {report.processor}: {describe_report(report)}{latency}"
