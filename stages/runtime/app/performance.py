"""How a model performs: requests, latency and confidence by version, and how far its signals drift from its profile.

A profile has the counts of each signal over reference data (`python -m make_profile`). Its bins are those of the
histograms here, so that a monitoring system can compute the same statistics over any time and any number of replicas.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from xoe_runtime.drift import Sketch, compare, count_needed, find_bin
from xoe_runtime.drift_profile import LARGEST, DriftProfile, parse_profile
from xoe_runtime.drift_window import DriftWindow

from detector import ModelInfo
from metrics import BUCKETS, NO_ANSWER
from problems import Problem

CONFIDENCES = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)
SLOT = 300.0  # seconds

log = logging.getLogger("speech")


class Performance:
    """The series of the loaded model. For use from one thread."""

    def __init__(self, registry: CollectorRegistry, info: ModelInfo, profile: DriftProfile | None) -> None:
        labels, mine = ("model", "version"), (info.name, info.version)
        requests = Counter("model_requests_total", "Requests to a model.", (*labels, "outcome"), registry=registry)
        self._outcomes = {one: requests.labels(*mine, one) for one in ("ok", "refused", "failed", "abandoned")}
        self._latency = Histogram(
            "model_latency_seconds", "Decoding and model, of answers.", labels, buckets=BUCKETS, registry=registry
        ).labels(*mine)
        self._confidence = Histogram(
            "model_confidence",
            "Mean probability of the likelier answer.",
            labels,
            buckets=CONFIDENCES,
            registry=registry,
        ).labels(*mine)
        self._signals = Signals(info, profile)
        registry.register(self._signals)

    @contextmanager
    def count(self) -> Iterator[None]:
        """Count a request by how the block ends."""
        outcome = "failed"
        try:
            yield
            outcome = "ok"
        except Problem as problem:
            outcome = "abandoned" if problem.status == NO_ANSWER else "refused"
            raise
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            self._outcomes[outcome].inc()

    def observe(self, seconds: float, signals: Mapping[str, float]) -> None:
        """Note an answer that the model gave."""
        self._latency.observe(seconds)
        if not math.isnan(signals["confidence"]):  # of audio without a window
            self._confidence.observe(signals["confidence"])
        self._signals.add(signals)


class Signals(Collector):
    """Histograms of a model's inputs and outputs in the bins of its profile, and their drift from it."""

    def __init__(
        self, info: ModelInfo, profile: DriftProfile | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._labels = (info.name, info.version)
        self._profile = profile
        self._clock = clock
        self._reference = {} if profile is None else dict(profile.signals)
        self._counts = {name: [0] * len(of.counts) for name, of in self._reference.items()}
        self._totals = dict.fromkeys(self._reference, 0.0)
        self._window = DriftWindow({name: of.edges for name, of in self._reference.items()}, SLOT)

    def add(self, signals: Mapping[str, float]) -> None:
        """Count the signals of one request; those that are no number, or not in the profile, are left out."""
        self._window.add(signals, self._clock())
        for name, value in signals.items():
            if name in self._reference and not math.isnan(value):
                self._counts[name][find_bin(self._reference[name].edges, value)] += 1
                self._totals[name] += value

    def collect(self) -> Iterator[Metric]:
        """Yield the series; those of drift are absent while there are too few samples to say anything."""
        labels = ("model", "version", "signal")
        info = GaugeMetricFamily(
            "model_drift_profile_info", "Whether the model has a profile.", labels=("model", "version", "profile")
        )
        info.add_metric((*self._labels, self._profile.data[:12] if self._profile else ""), float(bool(self._profile)))
        yield info
        seen = HistogramMetricFamily("model_signal", "Values of a signal.", labels=labels)
        reference = HistogramMetricFamily("model_signal_reference", "Its values in the profile.", labels=labels)
        for name, known in self._reference.items():
            counted = Sketch(known.edges, tuple(self._counts[name]), self._totals[name])
            for family, sketch in ((seen, counted), (reference, known)):
                family.add_metric((*self._labels, name), list(cumulate(sketch)), sketch.total)
        yield from (seen, reference)
        yield from self._collect_drift(labels)

    def _collect_drift(self, labels: tuple[str, ...]) -> Iterator[Metric]:
        def family(name: str, what: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"model_drift_{name}", what, labels=labels)

        samples = family("samples", "Values in the window that is compared with the profile.")
        needed = family("samples_needed", "Values that are needed before drift is told.")
        psi = family("psi", "Population stability index; absent while samples are too few.")
        ks = family("ks", "Kolmogorov's and Smirnov's distance; absent while samples are too few.")
        pvalue = family("ks_pvalue", "How often chance brings that distance; absent while samples are too few.")
        for name, known in self._reference.items():
            window = self._window.read(name, count_needed(known.counts), self._clock())
            drift = compare(known, window)
            values = (drift.samples, drift.needed, drift.psi, drift.ks, drift.pvalue)
            for one, value in zip((samples, needed, psi, ks, pvalue), values, strict=True):
                if value is not None:
                    one.add_metric((*self._labels, name), value)
        yield from (samples, needed, psi, ks, pvalue)


def cumulate(sketch: Sketch) -> Iterator[tuple[str, float]]:
    """Yield the buckets of a Prometheus histogram: `le`, and how many values are at most that."""
    below = 0
    for edge, count in zip((*sketch.edges, float("inf")), sketch.counts, strict=True):
        below += count
        yield "+Inf" if edge == float("inf") else repr(edge), below


def find_profile(folder: Path, info: ModelInfo) -> DriftProfile | None:
    """Return the profile of this model, of those in `folder`; say why there is none."""
    others = []
    for path in sorted(folder.glob("*.json")):
        try:
            if path.stat().st_size > LARGEST:
                raise ValueError("is too large for a profile")
            profile = parse_profile(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            log.warning("%s: %s: no reference profile", path, error)
            continue
        if profile.sha256 == info.sha256:
            return profile
        others.append(path.name)
    log.warning("drift is not watched: no profile of %s in %s%s", info, folder, f", only {others}" if others else "")
    return None
