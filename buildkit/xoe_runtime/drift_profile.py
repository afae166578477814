"""The reference profile of a model: a JSON file with the counts of each signal over reference data, and of what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .drift import Sketch, count_needed, make_edges, make_sketch

LARGEST = 1_000_000  # bytes of a file
_FORMAT = 1
_SIGNALS, _EDGES = 64, 64  # at most
_HUGE = 1e15
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class DriftProfile(NamedTuple):
    """``sha256`` is the model's; ``signals`` are counts of its inputs and outputs over ``data``, a digest of files."""

    model: str
    sha256: str
    data: str
    signals: Mapping[str, Sketch]


def make_profile(model: str, sha256: str, data: str, rows: Iterable[Mapping[str, float]]) -> DriftProfile:
    """Return the profile of rows: the signals of one request each. Raises ValueError if they are too few, or differ."""
    columns: dict[str, list[float]] = {}
    for number, row in enumerate(rows):
        if number and row.keys() != columns.keys():
            raise ValueError(f"row {number + 1} has other signals than the first")
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    signals = {}
    for name, values in sorted(columns.items()):
        try:
            signals[name] = make_sketch(values, make_edges(values))
            count_needed(signals[name].counts)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return _checked(DriftProfile(model=model, sha256=sha256, data=data, signals=signals))


def render_profile(profile: DriftProfile) -> str:
    """Return the file of a profile; equal values give equal text."""
    signals = {
        name: {"edges": list(of.edges), "counts": list(of.counts), "sum": float(f"{of.total:.12g}")}
        for name, of in sorted(profile.signals.items())
    }
    head = {"format": _FORMAT, "model": profile.model, "sha256": profile.sha256, "data": profile.data}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    parts = [f"    {json.dumps(name)}: {json.dumps(of)}" for name, of in signals.items()]
    return "\n".join(("{", *lines, '  "signals": {', ",\n".join(parts), "  }", "}")) + "\n"


def parse_profile(text: str) -> DriftProfile:
    """Return the profile in a file's text. Raises ValueError if it is none."""
    if len(text) > LARGEST:
        raise ValueError("is too large for a profile")
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    if not isinstance(read, dict) or read.get("format") != _FORMAT or not isinstance(read.get("signals"), dict):
        raise ValueError(f"is no profile of format {_FORMAT}")
    signals = {str(name): _parse_sketch(str(name), of) for name, of in read["signals"].items()}
    model, sha256, data = (read.get(key) for key in ("model", "sha256", "data"))
    if not (isinstance(model, str) and isinstance(sha256, str) and isinstance(data, str)):
        raise ValueError("names no model, sha256 and data")  # noqa: TRY004 - of a file
    return _checked(DriftProfile(model=model, sha256=sha256, data=data, signals=signals))


def _parse_sketch(name: str, read: Any) -> Sketch:
    if not isinstance(read, dict):
        raise ValueError(f"{name}: is no table")  # noqa: TRY004 - of a file
    edges, counts, total = (read.get(key) for key in ("edges", "counts", "sum"))
    if not (isinstance(edges, list) and isinstance(counts, list) and all(map(_is_number, (*edges, total)))):
        raise ValueError(f"{name}: needs lists of numbers, `edges` and `counts`, and `sum`")
    if not all(isinstance(count, int) and not isinstance(count, bool) and 0 <= count < _HUGE for count in counts):
        raise ValueError(f"{name}: a count is no whole number")
    if len(counts) != len(edges) + 1 or len(edges) > _EDGES or edges != sorted(set(edges)):
        raise ValueError(f"{name}: must have rising edges, {_EDGES} at most, and one count more than edges")
    return Sketch(edges=tuple(map(float, edges)), counts=tuple(counts), total=float(total or 0))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _HUGE


def _checked(profile: DriftProfile) -> DriftProfile:
    if not _DIGEST.fullmatch(profile.sha256):
        raise ValueError("sha256 is no SHA-256 in hexadecimal")
    if not 0 < len(profile.signals) <= _SIGNALS or not all(map(_NAME.fullmatch, profile.signals)):
        raise ValueError(f"needs 1 to {_SIGNALS} signals, named by small letters, digits and _")
    for name, sketch in profile.signals.items():
        try:
            count_needed(sketch.counts)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return profile
