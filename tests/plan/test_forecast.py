"""Forecasts of a plan's cost: bytes, and seconds by the medians of earlier runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planfakes import composer

from buildkit.digest import DiffId, Digest
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.forecast import Cost, Pace, Paces, forecast, measure, total
from buildkit.plan.plan import LayerSource, Plan, PlannedLayer
from buildkit.plan.spec import Kind

COMPOSITION = composer().compose("runtime")
WHEELS = next(spec for spec in COMPOSITION.specs if spec.kind is Kind.WHEELS)
ROOT = COMPOSITION.specs[0]
BLOB = Blob(digest=Digest.of(b"b"), diff_id=DiffId.of(b"b"), size=30, unpacked=100, compression=Compression.ZSTD)
MADE = LayerResult(blobs=(BLOB,))
PACES = Paces(
    build={
        Kind.WHEELS: Pace(size=9, seconds=9.0, per_byte=0.5, largest=100),
        Kind.ROOT: Pace(size=7, seconds=20.0, per_byte=2.0, largest=100),
    },
    fetch=Pace(size=1, seconds=1.0, per_byte=0.25, largest=100),
    imports=Pace(size=1, seconds=1.0, per_byte=0.01, largest=100),
)


def is_not_stored(entry: PlannedLayer) -> bool:
    return entry.source is not LayerSource.STORAGE


def cost(
    entry: PlannedLayer, paces: Paces = PACES, *, imports: bool = True, fetch: int | None = 0, **more: object
) -> Cost:
    plan = Plan(composition=COMPOSITION, entries=(entry,))
    is_imported = is_not_stored if imports else None
    (only,) = forecast(plan, paces, lambda _spec: fetch, is_imported=is_imported, **more)  # type: ignore[arg-type]
    return only


def entry(source: LayerSource, spec: object = WHEELS, unpacked: int = 100) -> PlannedLayer:
    made = None if source is LayerSource.BUILT else MADE
    return PlannedLayer(spec=spec, source=source, unpacked=unpacked, result=made)  # type: ignore[arg-type]


def test_layer_in_storage_costs_nothing() -> None:
    assert cost(entry(LayerSource.STORAGE)) == Cost(seconds=0.0)


def test_cached_layer_is_only_imported() -> None:
    assert cost(entry(LayerSource.CACHE)) == Cost(imports=100, seconds=1.0)
    assert cost(entry(LayerSource.CACHE), imports=False) == Cost(seconds=0.0)


def test_remote_layer_is_fetched_if_it_is_imported() -> None:
    assert cost(entry(LayerSource.SHARED)) == Cost(fetch=30, imports=100, seconds=30 * 0.25 + 1.0)
    assert cost(entry(LayerSource.SHARED), imports=False) == Cost(seconds=0.0)


def test_built_layer_is_fetched_built_and_imported() -> None:
    assert cost(entry(LayerSource.BUILT), fetch=40) == Cost(fetch=40, build=100, imports=100, seconds=10.0 + 50.0 + 1.0)


def test_unknown_size_is_the_median_of_the_kind() -> None:
    assert cost(entry(LayerSource.BUILT, ROOT, 0), fetch=0) == Cost(build=7, imports=7, seconds=14.0 + 0.07)


def test_work_without_earlier_runs_has_no_seconds_or_bytes() -> None:
    never = cost(entry(LayerSource.BUILT, ROOT, 0), Paces(build={}), fetch=None)
    assert never == Cost(fetch=None, build=None, imports=None, seconds=None)


def test_push_sends_blobs_not_known_in_the_registry() -> None:
    assert cost(entry(LayerSource.CACHE)).push is None
    assert cost(entry(LayerSource.CACHE), is_pushed=lambda _blob: False).push == 30
    assert cost(entry(LayerSource.CACHE), is_pushed=lambda blob: blob is BLOB).push == 0
    assert cost(entry(LayerSource.BUILT), is_pushed=lambda _blob: False).push is None


def test_total_is_unknown_if_one_cost_is_unknown() -> None:
    known = Cost(fetch=1, build=2, imports=3, push=4, seconds=5.0)
    assert total([known, known]) == Cost(fetch=2, build=4, imports=6, push=8, seconds=10.0)
    assert total([known, replace(known, fetch=None, seconds=None)]) == Cost(
        fetch=None, build=4, imports=6, push=8, seconds=None
    )
    assert total([replace(known, push=None)]).push is None
    assert known.as_json() == {"fetch": 1, "build": 2, "import": 3, "push": 4, "seconds": 5.0}


def test_pace_without_earlier_runs_is_unknown() -> None:
    assert measure([]) is None
    assert measure([(0, 1.0)]) is None


def test_pace_is_the_median_of_earlier_runs() -> None:
    assert measure([(10, 5.0)]) == Pace(size=10, seconds=5.0, per_byte=0.5, largest=10)
    pace = measure([(10, 5.0), (20, 2.0), (1000, 1000.0)])
    assert pace == Pace(size=20, seconds=5.0, per_byte=1.0, largest=1000)
    assert pace.takes(0) == 5.0


def test_many_small_runs_do_not_make_a_large_one_slow() -> None:
    """An image whose one line was changed a hundred times: what importing takes is not how much there is to import."""
    pace = measure([(293_000_000, 6.0), (233_000_000, 5.0), *[(73_000, 0.35)] * 100])
    assert pace is not None
    assert pace.takes(73_000) == pytest.approx(0.35, rel=0.1)
    assert 4 < pace.takes(200_000_000) < 6


def test_pace_of_small_runs_is_limited_for_large_ones() -> None:
    pace = measure([(3_600, 0.17), (4_000, 0.2)])
    assert pace is not None
    assert pace.takes(5_000_000) < 10


def test_layers_are_imported_in_one_run() -> None:
    pace = Pace(size=1, seconds=1.0, fixed=2.0, per_byte=0.01, largest=1000)
    plan = Plan(
        composition=COMPOSITION,
        entries=(entry(LayerSource.CACHE), entry(LayerSource.STORAGE), entry(LayerSource.CACHE)),
    )
    costs = forecast(plan, Paces(build={}, imports=pace), lambda _spec: 0, is_imported=is_not_stored)
    assert [cost.seconds for cost in costs] == [2.0, 0.0, 2.0]
