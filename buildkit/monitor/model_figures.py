"""What a service's ``/metrics`` says of its models: how they perform, and how far their signals drift. Pure."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buildkit.monitor.exposition import CountedBuckets, MetricSample, find_histograms, parse_samples
from buildkit.monitor.metrics import Labels
from buildkit.xoe_runtime.drift import Drift, Sketch, compare

_DRIFT = "model_drift_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFigures:
    """An input or output: its profile, what was counted, and the drift of that and of the service's latest window."""

    name: str
    reference: Sketch
    seen: Sketch
    drift: Drift
    window: Drift


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """A version of a model: requests by outcome, seconds of answers by share of them, the mean confidence.

    ``profile`` is whether it has a reference profile; without one it has no ``signals``.
    """

    model: str
    version: str
    requests: Mapping[str, int]
    latency: Mapping[str, float | None]
    confidence: float | None
    profile: bool
    signals: tuple[SignalFigures, ...]


def read_models(page: str, since: str = "") -> tuple[ModelFigures, ...]:
    """Return the models of a page, by name and version; what was counted is that after the page ``since``.

    A counter that has gone back belongs to a service that began anew: it counts as a whole.
    """
    now, before = _by_model(page), _by_model(since)
    counted = sorted(key for key, mine in now.items() if any(one.name == "model_requests_total" for one in mine))
    return tuple(_read_model(key, now[key], before.get(key, [])) for key in counted)


def _by_model(page: str) -> Mapping[tuple[str, str], Sequence[MetricSample]]:
    """Return the samples of a page by name and version of their model."""
    found: defaultdict[tuple[str, str], list[MetricSample]] = defaultdict(list)
    for one in parse_samples(page):
        if one.name.startswith("model_"):
            found[one.labels.get("model", ""), one.labels.get("version", "")].append(one)
    return dict(found)


def _read_model(key: tuple[str, str], mine: Sequence[MetricSample], old: Sequence[MetricSample]) -> ModelFigures:
    requests = {one.labels.get("outcome", ""): one.value for one in mine if one.name == "model_requests_total"}
    earlier = {one.labels.get("outcome", ""): one.value for one in old if one.name == "model_requests_total"}
    anew = any(requests[name] < earlier.get(name, 0) for name in requests)
    old = [] if anew else old
    latency, confidence = (_only(_subtracted(mine, old, f"model_{name}")) for name in ("latency_seconds", "confidence"))
    infos = [one.value for one in mine if one.name == "model_drift_profile_info"]
    return ModelFigures(
        model=key[0],
        version=key[1],
        requests={name: int(value - (0 if anew else earlier.get(name, 0))) for name, value in sorted(requests.items())},
        latency={f"p{share}": latency.find_quantile(share / 100) if latency else None for share in (50, 95, 99)},
        confidence=confidence.total / confidence.size if confidence and confidence.size else None,
        profile=any(infos),
        signals=tuple(_read_signals(mine, old)),
    )


def _read_signals(now: Sequence[MetricSample], before: Sequence[MetricSample]) -> list[SignalFigures]:
    references = find_histograms(now, "model_signal_reference")
    seen = _subtracted(now, before, "model_signal")
    windows: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for one in now:
        if one.name.startswith(_DRIFT):
            windows[one.labels.get("signal", "")][one.name.removeprefix(_DRIFT)] = one.value
    found = []
    for labels, counted in sorted(references.items()):
        name, reference = dict(labels).get("signal", ""), _sketch(counted)
        if not reference.edges:
            raise ValueError(f"the profile of {name!r} has no bins")
        own = _sketch(seen[labels]) if labels in seen else None
        if own is None or own.edges != reference.edges:  # of two versions of the service: nothing was counted for it
            own = reference._replace(counts=(0,) * len(reference.counts))
        drift = compare(reference, own.counts)
        window = _read_window(windows[name], drift)
        found.append(SignalFigures(name=name, reference=reference, seen=own, drift=drift, window=window))
    return found


def _read_window(found: Mapping[str, float], like: Drift) -> Drift:
    needed = int(found.get("samples_needed", like.needed))
    told = (found.get(statistic, math.nan) for statistic in ("psi", "ks", "ks_pvalue"))
    statistics = (value if math.isfinite(value) else None for value in told)
    return Drift(int(found.get("samples", 0)), needed, *statistics)


def _subtracted(now: Sequence[MetricSample], before: Sequence[MetricSample], name: str) -> dict[Labels, CountedBuckets]:
    """Return the histograms of now less those of before that have the same edges."""
    old, found = find_histograms(before, name), {}
    for labels, counted in find_histograms(now, name).items():
        past = old.get(labels)
        if past and [edge for edge, _ in past.buckets] == [edge for edge, _ in counted.buckets]:
            buckets = tuple(
                (pair[0], pair[1] - was[1]) for pair, was in zip(counted.buckets, past.buckets, strict=True)
            )
            found[labels] = CountedBuckets(buckets=buckets, total=counted.total - past.total)
        else:
            found[labels] = counted
    return found


def _only(histograms: Mapping[Labels, CountedBuckets]) -> CountedBuckets | None:
    return next(iter(histograms.values()), None)


def _sketch(counted: CountedBuckets) -> Sketch:
    edges = tuple(edge for edge, _ in counted.buckets[:-1])
    below = [0, *(int(count) for _, count in counted.buckets)]
    counts = tuple(high - low for low, high in itertools.pairwise(below))
    return Sketch(edges=edges, counts=counts, total=counted.total)
