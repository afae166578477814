"""Metrics and labels that a query names. Syntax is not judged here: Prometheus' own parser does that."""

from __future__ import annotations

import re

_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_MATCHERS = re.compile(r"\{([^{}]*)\}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_OPERATORS = {"or", "and", "unless", "bool", "offset"}


def find_names(query: str) -> tuple[set[str], set[str]]:
    """Return the names of metrics, and of labels in matchers and groupings; ``le`` belongs to histograms."""
    bare = _RANGE.sub("", _STRING.sub('""', query))
    labels = {name for found in _MATCHERS.findall(bare) for name in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found)}
    bare = _MATCHERS.sub("", bare)
    labels |= {name for found in _GROUPING.findall(bare) for name in _WORD.findall(found)}
    bare = _GROUPING.sub("", bare)
    functions = set(re.findall(r"([a-zA-Z_]\w*)\s*\(", bare))
    aggregations = set(re.findall(r"\b(sum|count|max|min|avg)\b", bare))
    numbers = re.compile(r"\b[0-9.]+(?:e[0-9]+)?\b")
    metrics = set(_WORD.findall(numbers.sub("", bare))) - functions - aggregations - _OPERATORS
    return metrics, labels - {"le"}
