"""Metrics as values, and their text for Prometheus and OpenMetrics. Pure.

Sources: Prometheus' text format 0.0.4 (*Exposition formats*) and OpenMetrics 1.0.0 (*text format*).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

Labels = tuple[tuple[str, str], ...]
Sample = tuple[Labels, float]

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_SUFFIXES = {"counter": "_total", "info": "_info"}
_UNITS = ("seconds", "bytes", "ratio", "celsius", "watts")
_LONGEST = 256  # characters of a label's value
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_WORDS = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
_ACCEPTED = 1000  # characters of a header that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFamily:
    """A metric with its samples. ``kind`` is ``counter``, ``gauge`` or ``info``.

    ``name`` is as Prometheus stores it: that of a counter ends in ``_total``, that of an info in ``_info``.
    """

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...] = ()


def gauge(name: str, text: str, *samples: Sample) -> MetricFamily:
    """Return a gauge."""
    return MetricFamily(name=name, kind="gauge", help=text, samples=samples)


def counter(name: str, text: str, *samples: Sample) -> MetricFamily:
    """Return a counter."""
    return MetricFamily(name=name, kind="counter", help=text, samples=samples)


def choose_format(accept: str) -> str:
    """Return the content type for an ``Accept`` header: OpenMetrics only to those who prefer it."""
    weights = {OPENMETRICS: 0.0, PROMETHEUS: 0.0}
    for part in accept[:_ACCEPTED].split(","):
        kind, *rest = (word.strip() for word in part.split(";"))
        options = dict(word.partition("=")[::2] for word in rest)
        if kind == "application/openmetrics-text" and options.get("version", "1.0.0") in ("1.0.0", "0.0.1"):
            weights[OPENMETRICS] = max(weights[OPENMETRICS], _weight(options))
        elif kind in ("text/plain", "text/*", "*/*"):
            weights[PROMETHEUS] = max(weights[PROMETHEUS], _weight(options))
    return OPENMETRICS if weights[OPENMETRICS] > weights[PROMETHEUS] else PROMETHEUS


def _weight(options: dict[str, str]) -> float:
    found = re.fullmatch(r"[01](\.[0-9]{0,3})?", options.get("q", "1"))
    return float(found[0]) if found else 0.0


def render_metrics(families: Iterable[MetricFamily], content_type: str = PROMETHEUS) -> str:
    """Return the text of families that have samples; no family may come twice."""
    is_open = content_type == OPENMETRICS
    lines = [line for family in families if family.samples for line in _render(family, is_open=is_open)]
    return "\n".join([*lines, "# EOF", ""] if is_open else [*lines, ""])


def _render(family: MetricFamily, *, is_open: bool) -> Iterator[str]:
    named, kind = family.name, family.kind
    if is_open:
        named = family.name.removesuffix(_SUFFIXES.get(kind, ""))
        if (unit := named.rpartition("_")[2]) in _UNITS:
            yield f"# UNIT {named} {unit}"
    elif kind == "info":
        kind = "gauge"
    yield f"# HELP {named} {family.help}"
    yield f"# TYPE {named} {kind}"
    for labels, value in family.samples:
        text = repr(value)
        yield f"{family.name}{_render_labels(labels)} {_WORDS.get(text, text)}"


@lru_cache(maxsize=16_384)  # labels stay the same from scrape to scrape
def _render_labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{clean_label(value).translate(_ESCAPES)}"' for name, value in labels if value)
    return f"{{{pairs}}}" if pairs else ""


def clean_label(value: str) -> str:
    """Return a label's value in at most 256 characters, with U+FFFD for what no text holds; lines stay lines."""
    short = value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", short)
