"""Forecast the cost of a plan from earlier builds: bytes, and seconds by the median of each kind. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.plan import LayerSource, Plan, PlannedLayer
from buildkit.plan.spec import Spec

SLOW = 1e-7  # most seconds per byte for sizes beyond any earlier run: 10 MB/s


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The speed of one kind of work: the medians of bytes and seconds of a run.

    A run takes ``fixed`` seconds plus ``per_byte`` for each byte; ``largest`` are the bytes of the largest run.
    """

    size: int
    seconds: float
    per_byte: float
    fixed: float = 0.0
    largest: int

    def takes(self, size: int) -> float:
        """Return the seconds for ``size`` bytes, or those of a median run if the size is not known (0).

        Small runs tell little about the time per byte, so beyond the largest run a byte takes ``SLOW`` at most.
        """
        if not size:
            return self.seconds
        beyond = max(size - self.largest, 0)
        return self.fixed + (size - beyond) * self.per_byte + beyond * min(self.per_byte, SLOW)

    def share(self, size: int) -> Pace:
        """Return the pace of the parts of one run of ``size`` bytes."""
        return replace(self, per_byte=self.takes(size) / size, fixed=0.0, largest=size) if size else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Paces:
    """The paces of building (by kind of layer), fetching and importing; None if there was no earlier run."""

    build: Mapping[str, Pace]
    fetch: Pace | None = None
    imports: Pace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one layer.

    Bytes to fetch and to push are those of compressed files, bytes to build and to import those of unpacked tars.
    ``seconds`` cover everything but pushing. None means that the value cannot be known beforehand.
    """

    fetch: int | None = 0
    build: int | None = 0
    imports: int | None = 0
    push: int | None = None
    seconds: float | None = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return ``{"fetch", "build", "import", "push", "seconds"}``; null for unknown values."""
        seconds = None if self.seconds is None else round(self.seconds, 3)
        return {
            "fetch": self.fetch,
            "build": self.build,
            "import": self.imports,
            "push": self.push,
            "seconds": seconds,
        }


def measure(runs: Iterable[tuple[int, float]]) -> Pace | None:
    """Return the pace of earlier runs ``(bytes, seconds)``; None if there were none."""
    listed = [(size, seconds) for size, seconds in runs if size > 0]
    if not listed:
        return None
    per_byte = _median_by_byte(listed)
    return Pace(
        size=int(_median([size for size, _ in listed])),
        seconds=_median([seconds for _, seconds in listed]),
        per_byte=per_byte,
        fixed=_median([max(seconds - size * per_byte, 0.0) for size, seconds in listed]),
        largest=max(size for size, _ in listed),
    )


def measure_kinds(runs: Iterable[tuple[str, int, float]]) -> dict[str, Pace]:
    """Return the pace of each kind of layer, from ``(kind, bytes, seconds)``."""
    runs_by_kind: dict[str, list[tuple[int, float]]] = {}
    for kind, size, seconds in runs:
        runs_by_kind.setdefault(kind, []).append((size, seconds))
    paces = {kind: measure(timed) for kind, timed in runs_by_kind.items()}
    return {kind: pace for kind, pace in paces.items() if pace}


def forecast(
    plan: Plan,
    paces: Paces,
    to_fetch: Callable[[Spec], int | None],
    *,
    is_imported: Callable[[PlannedLayer], bool] | None = None,
    is_pushed: Callable[[Blob], bool] | None = None,
) -> tuple[Cost, ...]:
    """Return the cost of every entry. ``to_fetch`` returns the bytes that building a layer must download.

    ``is_imported`` tells whether local storage lacks a layer; without it nothing is imported. ``is_pushed`` tells
    whether the target registry already has a blob; without it nothing is pushed.
    """
    if is_imported is not None and paces.imports is not None:  # in one run
        imported = sum(_unpacked(entry, paces) or 0 for entry in plan.entries if is_imported(entry))
        paces = replace(paces, imports=paces.imports.share(imported))
    return tuple(_cost(entry, paces, to_fetch, is_imported, is_pushed) for entry in plan.entries)


def total(costs: Sequence[Cost]) -> Cost:
    """Return the sum; a value that is unknown for one is unknown for all."""
    return Cost(
        fetch=_sum([c.fetch for c in costs]),
        build=_sum([c.build for c in costs]),
        imports=_sum([c.imports for c in costs]),
        push=_sum([c.push for c in costs]) if any(c.push is not None for c in costs) else None,
        seconds=_sum([c.seconds for c in costs]),
    )


def _cost(
    entry: PlannedLayer,
    paces: Paces,
    to_fetch: Callable[[Spec], int | None],
    is_imported: Callable[[PlannedLayer], bool] | None,
    is_pushed: Callable[[Blob], bool] | None,
) -> Cost:
    pace = paces.build.get(entry.spec.kind)
    unpacked = _unpacked(entry, paces)
    builds = entry.source is LayerSource.BUILT
    brings = is_imported is not None and is_imported(entry)
    fetches = entry.source is LayerSource.SHARED and is_imported is not None
    fetch = to_fetch(entry.spec) if builds else _size(entry.result) if fetches else 0
    return Cost(
        fetch=fetch,
        build=unpacked if builds else 0,
        imports=unpacked if brings else 0,
        push=None if is_pushed is None else _to_push(entry, is_pushed),
        seconds=_sum(
            [
                _seconds(fetch, paces.fetch),
                _seconds(unpacked, pace) if builds else 0.0,
                _seconds(unpacked, paces.imports) if brings else 0.0,
            ]
        ),
    )


def _unpacked(entry: PlannedLayer, paces: Paces) -> int | None:
    """Return the bytes of a layer's tar, or the median of its kind if they are unknown."""
    pace = paces.build.get(entry.spec.kind)
    return entry.unpacked or (pace.size if pace else None)


def _size(result: LayerResult | None) -> int:
    return sum(blob.size for blob in result.blobs) if result else 0


def _to_push(entry: PlannedLayer, is_pushed: Callable[[Blob], bool]) -> int | None:
    if entry.result is None:
        return None
    return sum(blob.size for blob in entry.result.blobs if not is_pushed(blob))


def _seconds(size: int | None, pace: Pace | None) -> float | None:
    if size == 0:
        return 0.0
    return None if pace is None else pace.takes(size or 0)


def _sum(values: Sequence[float | None]) -> Any:  # noqa: ANN401 - int for ints, float for floats
    return None if None in values else sum(value for value in values if value is not None)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _median_by_byte(runs: Sequence[tuple[int, float]]) -> float:
    """Return the median seconds per byte, weighted by bytes: many small runs do not outvote a large one."""
    paces = sorted((seconds / size, size) for size, seconds in runs)
    sums = accumulate(size for _, size in paces)
    half = sum(size for size, _ in runs) / 2
    return next(per_byte for (per_byte, _), so_far in zip(paces, sums, strict=True) if so_far >= half)
