"""Prometheus' text format, as services answer ``/metrics``: its samples, and histograms made of them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*+)"[ \t]*,?[ \t]*')
_ESCAPED = re.compile(r"\\(.)")
_MEANING = {"n": "\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSample:
    """A value of a series."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedBuckets:
    """A histogram: ``buckets`` are upper edges with how many values are at most that, the last one infinite."""

    buckets: tuple[tuple[float, float], ...]
    total: float

    @property
    def size(self) -> float:
        """How many values it counted."""
        return self.buckets[-1][1] if self.buckets else 0.0

    def find_quantile(self, share: float) -> float | None:
        """Return the value below which a share of the values lies, as Prometheus' histogram_quantile estimates it."""
        wanted, low, below = share * self.size, 0.0, 0.0
        for edge, count in self.buckets:
            if count >= wanted and count > below:
                return low if edge == float("inf") else low + (edge - low) * (wanted - below) / (count - below)
            low, below = edge, count
        return None


def parse_samples(page: str) -> Iterator[MetricSample]:
    """Yield the samples of a page. Lines that are none are left out: a page is another program's."""
    for line in page.split("\n"):  # other line breaks may stand in labels
        if line.startswith("#") or (found := _SAMPLE.fullmatch(line)) is None:
            continue
        name, text, number = found.groups()
        try:
            yield MetricSample(name=name, labels=dict(_parse_labels((text or "").strip())), value=float(number))
        except ValueError:
            continue


def find_histograms(samples: Iterable[MetricSample], name: str) -> Mapping[tuple[tuple[str, str], ...], CountedBuckets]:
    """Return the histograms of a name, by their labels without ``le``."""
    buckets: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
    totals: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in samples:
        key = tuple(sorted(pair for pair in sample.labels.items() if pair[0] != "le"))
        if sample.name == f"{name}_bucket" and (edge := find_edge(sample.labels)) is not None:
            buckets.setdefault(key, {})[edge] = sample.value
        elif sample.name == f"{name}_sum":
            totals[key] = sample.value
    return {
        key: CountedBuckets(buckets=tuple(sorted(found.items())), total=totals.get(key, 0.0))
        for key, found in buckets.items()
        if float("inf") in found
    }


def find_edge(labels: Mapping[str, str]) -> float | None:
    """Return the upper edge that a bucket's label ``le`` names; None if it names none."""
    try:
        edge = float(labels.get("le", ""))
    except ValueError:
        return None
    return None if math.isnan(edge) else edge


def _parse_labels(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _LABEL.match(text, at)
        if found is None:
            raise ValueError("no label")
        yield found[1], _ESCAPED.sub(lambda one: _MEANING.get(one[1], one[1]), found[2])
        at = found.end()
