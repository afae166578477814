"""Figures that a service says of itself, in Prometheus' text format, version 0.0.4. Pure.

Source: prometheus.io/docs/instrumenting/exposition_formats. Of foreign text only the series that are asked for are
kept, and no more than `MOST_SERIES` of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MOST_SERIES = 20_000
_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?[0-9]+)?[ \t]*")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(?:,|$)')
_ESCAPE = re.compile(r"\\(.)")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The name and the labels, by name, of a series."""

    name: str
    labels: Labels

    def label(self, name: str) -> str:
        """Return the value of a label; empty if there is none."""
        return dict(self.labels).get(name, "")


def parse_exposition(text: str, is_wanted: Callable[[str], bool]) -> dict[Series, float]:
    """Return the values of the series whose names are wanted; lines that are no series are left out."""
    found: dict[Series, float] = {}
    for line in text.split("\n"):  # other line breaks may stand in labels
        match = _LINE.fullmatch(line)
        if match is None or not is_wanted(match[1]):
            continue
        labels, value = _parse_labels(match[2] or ""), _parse_value(match[3])
        if labels is not None and value is not None:
            found[Series(name=match[1], labels=labels)] = value
        if len(found) >= MOST_SERIES:
            break
    return found


def _parse_labels(text: str) -> Labels | None:
    """Return the labels of ``a="b",c="d"``, or None for what is not that."""
    labels = tuple(_labels(text))
    return tuple(sorted(labels)) if None not in labels else None  # type: ignore[arg-type]


def _labels(text: str) -> Iterator[tuple[str, str] | None]:
    position = 0
    while text[position:].strip():
        match = _LABEL.match(text, position)
        if match is None:
            yield None
            return
        yield match[1], _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], match[2])
        position = match.end()


def _parse_value(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
