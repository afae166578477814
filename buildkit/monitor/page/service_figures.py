"""What a service and its models do in a minute: looks at its counters, compared. Pure; the clock is given.

Names are those of the reference service (``speech_http_…``), of services that follow Prometheus' conventions
(``http_requests_total``), of models (``model_…``) and of Triton (``nv_inference_…``). Quantiles are those of
PromQL's histogram_quantile, so that page and dashboards agree.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from buildkit.monitor.exposition import CountedBuckets, MetricSample, find_edge, parse_samples
from buildkit.monitor.metrics import clean_label

WINDOW = 60.0  # seconds
MOST_SERIES = 4000
_KEPT = 64  # looks
_MOST_MODELS = 50
_MOST_SIGNALS = 20  # of a model
_LONGEST = 257  # characters of a label, of which 256 are shown
_HTTP = re.compile(r"(?:[a-z0-9]+_)?http_request(?:s_total|(?:_duration)?_seconds_bucket|s_in_flight)|[a-z0-9]+_ready")
_MODEL = re.compile(
    r"model_(?:requests_total|latency_seconds_bucket|confidence_bucket|drift_(?:psi|ks|samples|samples_needed))"
    r"|nv_inference_(?:request_success|request_failure|request_duration_us)"
)
_DRIFT = ("psi", "ks", "samples", "samples_needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The name and the labels, by name, of a series."""

    name: str
    labels: tuple[tuple[str, str], ...]

    def label(self, name: str) -> str:
        """Return the value of a label; empty if there is none."""
        return dict(self.labels).get(name, "")


Values = Mapping[Series, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFigures:
    """The series of a service that are shown, and how many there are beyond `MOST_SERIES`."""

    values: Values
    left_out: int = 0


def read_figures(page: str) -> ServiceFigures:
    """Return the series of a service's page of metrics that are shown; of too many, the first ones."""
    wanted = (one for one in parse_samples(page) if _HTTP.fullmatch(one.name) or _MODEL.fullmatch(one.name))
    values = {_series(one): one.value for one in islice(wanted, MOST_SERIES)}
    return ServiceFigures(values=values, left_out=sum(1 for _ in wanted))


def _series(one: MetricSample) -> Series:
    return Series(name=one.name, labels=tuple(sorted((name, text[:_LONGEST]) for name, text in one.labels.items())))


@dataclass(slots=True, kw_only=True)
class ServiceHistory:
    """The looks of the last minute at one service."""

    name: str
    _looks: deque[tuple[float, Values]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def look(self, at: float, figures: ServiceFigures) -> dict[str, Any]:
        """Return the figures of the last minute, at a second of a clock that is never set back; None: not known yet.

        ``left_out`` says how many series, models and signals of models there are too many, in words.
        """
        held = {series: series for series in self._looks[-1][1]} if self._looks else {}
        values = {held.get(series, series): value for series, value in figures.values.items()}  # each is held once
        while len(self._looks) > 1 and at - self._looks[1][0] >= WINDOW:
            self._looks.popleft()
        before = self._looks[0] if self._looks else (at, values)
        self._looks.append((at, values))
        grown = _Growth(seconds=at - before[0], values=_increases(before[1], values))
        own = _split_models(values)
        shown = [
            _model(key, own[key], replace(grown, values={one: grown.values[one] for one in own[key]}))
            for key in sorted(own)[:_MOST_MODELS]
        ]
        signals = sum(len(model["drift"][_MOST_SIGNALS:]) for model in shown)
        too_many = ((figures.left_out, "series"), (len(own) - len(shown), "models"), (signals, "signals"))
        return {
            "name": self.name,
            "problem": None,
            "left_out": ", ".join(f"{count} {what}" for count, what in too_many if count),
            **_http(values, grown),
            "models": [{**model, "drift": model["drift"][:_MOST_SIGNALS]} for model in shown],
        }

    def fail(self, problem: str) -> dict[str, Any]:
        """Return what is said of a service that did not answer; what was seen before says nothing of now."""
        self._looks.clear()
        nothing = _Growth(seconds=0.0, values={})
        return {"name": self.name, "problem": problem, "left_out": "", **_http({}, nothing), "models": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growth:
    seconds: float
    values: Values

    def rate(self, chosen: Callable[[Series], bool]) -> float | None:
        """Return by how much the chosen series grew in a second; None without time or such series."""
        found = [value for series, value in self.values.items() if chosen(series)]
        return sum(found) / self.seconds if found and self.seconds > 0 else None

    def quantile(self, share: float, chosen: Callable[[Series], bool]) -> float | None:
        """Return a quantile of the chosen histograms, taken together."""
        buckets: defaultdict[float, float] = defaultdict(float)
        for series, value in self.values.items():
            if chosen(series) and (edge := find_edge(dict(series.labels))) is not None:
                buckets[edge] += value
        counted = CountedBuckets(buckets=tuple(sorted(buckets.items())), total=0.0)
        return counted.find_quantile(share) if float("inf") in buckets else None


def _increases(before: Values, now: Values) -> Values:
    """Return by how much each counter grew; one that went back began anew. A series that is new counts from nothing."""
    grown = {series: value - before.get(series, 0.0) for series, value in now.items()}
    return {series: now[series] if value < 0 else value for series, value in grown.items()}


def _http(values: Values, grown: _Growth) -> dict[str, Any]:
    def is_request(series: Series) -> bool:
        return series.name.endswith("http_requests_total")

    def is_latency(series: Series) -> bool:
        return "http_request" in series.name and series.name.endswith("_bucket")

    def is_refused(series: Series) -> bool:
        return is_request(series) and series.label("status") in ("429", "503")

    def is_error(series: Series) -> bool:
        return is_request(series) and series.label("status").startswith("5") and not is_refused(series)

    requests = grown.rate(is_request)
    return {
        "ready": next((value > 0 for series, value in values.items() if series.name.endswith("_ready")), None),
        "requests": requests,
        "errors": _share(grown.rate(is_error), requests),
        "refused": _share(grown.rate(is_refused), requests),
        "in_flight": _sum(value for series, value in values.items() if series.name.endswith("_in_flight")),
        **{f"p{share}": grown.quantile(share / 100, is_latency) for share in (50, 95, 99)},
    }


def _split_models(values: Values) -> dict[tuple[str, str], dict[Series, float]]:
    """Return the series of each version of a model."""
    own: defaultdict[tuple[str, str], dict[Series, float]] = defaultdict(dict)
    for series, value in values.items():
        if _MODEL.fullmatch(series.name):
            own[series.label("model"), series.label("version")][series] = value
    return own


def _model(key: tuple[str, str], values: Values, grown: _Growth) -> dict[str, Any]:
    def named(*names: str) -> Callable[[Series], bool]:
        return lambda one: one.name in names

    def failed(one: Series) -> bool:
        if one.name == "model_requests_total":
            return one.label("outcome") == "failed"
        return one.name == "nv_inference_request_failure"

    success = named("nv_inference_request_success")
    requests = grown.rate(named("model_requests_total", "nv_inference_request_success", "nv_inference_request_failure"))
    micros = grown.rate(named("nv_inference_request_duration_us"))
    return {
        "model": clean_label(key[0]),
        "version": clean_label(key[1]),
        "requests": requests,
        "errors": _share(grown.rate(failed) or 0.0, requests),
        "mean": _share(micros / 1e6 if micros is not None else None, grown.rate(success)),
        **{f"p{share}": grown.quantile(share / 100, named("model_latency_seconds_bucket")) for share in (50, 95)},
        "confidence": grown.quantile(0.5, named("model_confidence_bucket")),
        "drift": _drift(values),
    }


def _drift(values: Values) -> list[dict[str, Any]]:
    signals: dict[str, dict[str, Any]] = {}
    for series, value in values.items():
        statistic = series.name.removeprefix("model_drift_")
        if statistic in _DRIFT:
            signal = clean_label(series.label("signal"))
            signals.setdefault(signal, {"signal": signal, **dict.fromkeys(_DRIFT)})[statistic] = value
    return [signals[name] for name in sorted(signals)]


def _share(part: float | None, whole: float | None) -> float | None:
    return None if not whole else (part or 0.0) / whole


def _sum(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) if found else None
