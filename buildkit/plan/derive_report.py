"""What was measured when a model was derived, and whether it holds against its source. Pure.

Times are in seconds and of one run, in which both models took turns; they count as ratios. They belong to the machine
that measured, so they are reported and never locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from buildkit.locks.derivation import Derivation, DeriveGate
from buildkit.locks.derive_schema import LOSSY_TOOLS, ONNX_TOOLS

_HUGE = 1e300
_SMALLER, _FASTER, _LOADS_FASTER = 0.99, 0.95, 0.9  # ratios from which on a derivation gains something


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """Bytes, metric, seconds a call (``latency`` of the shortest calls, ``p50``) and to load; None if not measured.

    ``operators`` and ``quantised`` are counts by type.
    """

    size: int
    metric: float | None = None
    latency: float | None = None
    p50: float | None = None
    load: float | None = None
    operators: Mapping[str, int] | None = None
    quantised: Mapping[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields that are known."""
        names = ("size", "metric", "latency", "p50", "load", "operators", "quantised")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MeasuredModel:
        """Return what ``as_json`` described; raises TypeError for unknown fields, ValueError for what is no number."""
        numbers = [value[name] for name in ("metric", "latency", "p50", "load") if name in value]
        counts = [count for name in ("operators", "quantised") for count in value.get(name, {}).values()]
        if not all(type(number) in (int, float) and abs(number) < _HUGE for number in numbers):
            raise ValueError("a figure is no number")
        if not all(type(count) is int for count in (value["size"], *counts)):
            raise ValueError("a count is no number")
        return cls(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveReport:
    """A derived model beside its source: both as measured, and the processor, threads and libraries that were used."""

    name: str
    of: str
    tool: str
    source: MeasuredModel
    derived: MeasuredModel
    better: str = "higher"
    processor: str = ""
    threads: int = 0
    versions: tuple[tuple[str, str], ...] = ()

    @property
    def loss(self) -> float | None:
        """How much worse the metric is; below 0 if it is better."""
        if self.source.metric is None or self.derived.metric is None:
            return None
        loss = self.source.metric - self.derived.metric
        return -loss if self.better == "lower" else loss

    @property
    def size_ratio(self) -> float:
        """Its bytes, as a share of the source's."""
        return self.derived.size / max(self.source.size, 1)

    @property
    def latency_ratio(self) -> float | None:
        """The time of a call, as a share of the source's."""
        return _ratio(self.derived.latency, self.source.latency)

    @property
    def load_ratio(self) -> float | None:
        """The time to load, as a share of the source's."""
        return _ratio(self.derived.load, self.source.load)

    def as_json(self) -> dict[str, Any]:
        """Return everything, with the ratios."""
        ratios = {"loss": self.loss, "size": self.size_ratio, "latency": self.latency_ratio, "load": self.load_ratio}
        return {
            "name": self.name,
            "from": self.of,
            "tool": self.tool,
            "better": self.better,
            "source": self.source.as_json(),
            "derived": self.derived.as_json(),
            "ratios": {name: value for name, value in ratios.items() if value is not None},
            "processor": self.processor,
            "threads": self.threads,
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DeriveReport:
        """Return what ``as_json`` described; raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            name=value["name"],
            of=value["from"],
            tool=value["tool"],
            better=value["better"],
            source=MeasuredModel.from_json(value["source"]),
            derived=MeasuredModel.from_json(value["derived"]),
            processor=value["processor"],
            threads=value["threads"],
            versions=tuple(sorted(value["versions"].items())),
        )


def _ratio(mine: float | None, other: float | None) -> float | None:
    return mine / other if mine is not None and other else None


def find_failures(report: DeriveReport, derivation: Derivation) -> tuple[str, ...]:
    """Return why a derived model is refused, with the figures; none if it passes its gate and gains something."""
    gate = derivation.gate or DeriveGate()
    failures = tuple(_failed_limits(report, gate))
    return failures or tuple(_gains_nothing(report, derivation))


def _failed_limits(report: DeriveReport, gate: DeriveGate) -> Iterator[str]:
    loss, size, latency = report.loss, report.size_ratio, report.latency_ratio
    if gate.metric and gate.max_loss is not None and loss is None:
        yield "its metric is not known"
    elif gate.max_loss is not None and loss is not None and loss > gate.max_loss:
        pair = f"{format_number(report.source.metric)} → {format_number(report.derived.metric)}"
        yield f"its metric is worse by {format_number(loss)} ({pair}), and at most {gate.max_loss:g} is allowed"
    if gate.max_size is not None and size > gate.max_size:
        yield f"it has {size:.3f} of the bytes of {report.of}, and at most {gate.max_size:g} is allowed"
    if gate.max_latency is not None and latency is None:
        yield f"the time of a call is not known: the metric must call the models, and {report.of} must be ONNX, too"
    elif gate.max_latency is not None and latency is not None and latency > gate.max_latency:
        pair = f"{format_time(report.source.latency)} → {format_time(report.derived.latency)}"
        yield f"a call takes {latency:.2f} of the time ({pair}), and at most {gate.max_latency:g} is allowed"


def _gains_nothing(report: DeriveReport, derivation: Derivation) -> Iterator[str]:
    if derivation.tool not in ONNX_TOOLS:
        return  # another format is what it is for
    if derivation.tool in LOSSY_TOOLS and not report.derived.quantised:
        yield "nothing in it could be quantised"
        return
    ratios = (report.size_ratio, _SMALLER), (report.latency_ratio, _FASTER), (report.load_ratio, _LOADS_FASTER)
    if not any(ratio is not None and ratio <= least for ratio, least in ratios):
        yield f"it gains nothing over {report.of}: {describe_report(report)}"


def describe_report(report: DeriveReport) -> str:
    """Return the figures in one line for people."""
    parts = [f"{report.size_ratio:.2f} of the bytes"]
    if report.latency_ratio is not None:
        parts.append(f"{report.latency_ratio:.2f} of the time of a call")
    if report.load_ratio is not None:
        parts.append(f"{report.load_ratio:.2f} of the time to load")
    if report.derived.metric is not None:
        parts.insert(0, f"metric {format_number(report.derived.metric)} of {format_number(report.source.metric)}")
    return ", ".join(parts)


def locked_report(report: DeriveReport) -> tuple[tuple[str, str], ...]:
    """Return what a lock keeps of a report, sorted by name: what belongs to the model, without any time."""
    kept = {"size": f"{report.size_ratio:.3g}", "processor": report.processor}
    if report.derived.metric is not None:
        kept |= {
            "metric": format_number(report.derived.metric),
            "metric-of-source": format_number(report.source.metric),
        }
    if report.derived.quantised is not None:
        kept["quantised"] = format_counts(report.derived.quantised)
    if report.derived.operators is not None:
        kept["operators"] = f"{sum(report.derived.operators.values())}"
        kept["operators-of-source"] = f"{sum((report.source.operators or {}).values())}"
    return tuple(sorted((name, value) for name, value in kept.items() if value))


def format_counts(counts: Mapping[str, int]) -> str:
    """Return counts by type in one line: ``Conv 6, MatMul 2``."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def format_number(value: float | None) -> str:
    """Return a figure with four significant digits."""
    return "" if value is None else f"{value:.4g}"


def format_time(seconds: float | None) -> str:
    """Return a duration in milliseconds."""
    return "" if seconds is None else f"{1000 * seconds:.3g} ms"
