"""Which lower layers are worth an import of their own."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from buildkit.build.preimport import MIN_IMPORT_BYTES, find_depths
from buildkit.digest import Key
from buildkit.plan.plan import LayerSource, PlannedLayer
from buildkit.plan.spec import Kind, PackPrefix, Spec

LITTLE = MIN_IMPORT_BYTES // 4
SPEC = Spec(name="x", kind=Kind.WHEELS, recipe="", key=Key.of(b"x"), work=PackPrefix(), history="")


def entry(source: LayerSource, size: int = MIN_IMPORT_BYTES, kind: Kind = Kind.WHEELS) -> PlannedLayer:
    return PlannedLayer(spec=replace(SPEC, kind=kind), source=source, unpacked=size)


def depths(*entries: PlannedLayer) -> list[int]:
    return list(find_depths(entries))


BUILT, CACHE = entry(LayerSource.BUILT), entry(LayerSource.CACHE)


def test_a_root_of_unknown_size_is_worth_it_alone() -> None:
    assert depths(entry(LayerSource.BUILT, 0, Kind.IMAGE), BUILT) == [1]
    assert depths(entry(LayerSource.BUILT, 0, Kind.RUN), entry(LayerSource.BUILT, 1)) == []


def test_little_ones_go_together() -> None:
    assert depths(*[entry(LayerSource.BUILT, LITTLE)] * 9) == [4, 8]


def test_what_storage_has_counts_for_nothing() -> None:
    assert depths(entry(LayerSource.STORAGE), entry(LayerSource.STORAGE), BUILT, BUILT) == [3]


def test_the_last_one_to_be_made_ends_it() -> None:
    """Nothing is made meanwhile, so the whole can be imported at once."""
    assert depths(BUILT) == []
    assert depths(CACHE, CACHE, CACHE) == []
    assert depths(CACHE, BUILT, CACHE, CACHE) == [1]
    assert depths(CACHE, entry(LayerSource.SHARED), CACHE) == [1]


@given(st.lists(st.tuples(st.sampled_from(list(LayerSource)), st.integers(0, 2 * MIN_IMPORT_BYTES))))
def test_each_is_worth_it_and_has_something_above(shape: list[tuple[LayerSource, int]]) -> None:
    entries = [entry(source, size) for source, size in shape]
    found = depths(*entries)
    assert found == sorted(set(found))
    for below, depth in zip([0, *found], found, strict=False):
        sizes = [one.unpacked for one in entries[below:depth] if one.source is not LayerSource.STORAGE]
        assert sum(sizes) >= MIN_IMPORT_BYTES > sum(sizes[:-1])
        assert any(one.source in (LayerSource.BUILT, LayerSource.SHARED) for one in entries[depth:])
