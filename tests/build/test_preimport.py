"""Which lower layers are imported early."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from buildkit.build.preimport import MIN_IMPORT_BYTES, find_depths
from buildkit.digest import Key
from buildkit.plan.plan import LayerSource, PlannedLayer
from buildkit.plan.spec import Kind, PackPrefix, Spec

SMALL = MIN_IMPORT_BYTES // 4
SPEC = Spec(name="x", kind=Kind.WHEELS, recipe="", key=Key.of(b"x"), work=PackPrefix(), history="")


def entry(source: LayerSource, size: int = MIN_IMPORT_BYTES, kind: Kind = Kind.WHEELS) -> PlannedLayer:
    return PlannedLayer(spec=replace(SPEC, kind=kind), source=source, unpacked=size)


def depths(*entries: PlannedLayer) -> list[int]:
    return list(find_depths(entries))


BUILT, CACHE = entry(LayerSource.BUILT), entry(LayerSource.CACHE)


def test_root_of_unknown_size_is_imported_early() -> None:
    assert depths(entry(LayerSource.BUILT, 0, Kind.IMAGE), BUILT) == [1]
    assert depths(entry(LayerSource.BUILT, 0, Kind.RUN), entry(LayerSource.BUILT, 1)) == []


def test_small_layers_are_imported_early_together() -> None:
    assert depths(*[entry(LayerSource.BUILT, SMALL)] * 9) == [4, 8]


def test_layers_in_storage_do_not_count_for_an_early_import() -> None:
    assert depths(entry(LayerSource.STORAGE), entry(LayerSource.STORAGE), BUILT, BUILT) == [3]


def test_nothing_is_imported_early_above_the_last_built_layer() -> None:
    """Nothing is built meanwhile, so the whole image can be imported at once."""
    assert depths(BUILT) == []
    assert depths(CACHE, CACHE, CACHE) == []
    assert depths(CACHE, BUILT, CACHE, CACHE) == [1]
    assert depths(CACHE, entry(LayerSource.SHARED), CACHE) == [1]


@given(st.lists(st.tuples(st.sampled_from(list(LayerSource)), st.integers(0, 2 * MIN_IMPORT_BYTES))))
def test_each_early_import_is_large_enough_and_below_a_layer_to_build(shape: list[tuple[LayerSource, int]]) -> None:
    entries = [entry(source, size) for source, size in shape]
    found = depths(*entries)
    assert found == sorted(set(found))
    for below, depth in zip([0, *found], found, strict=False):
        sizes = [one.unpacked for one in entries[below:depth] if one.source is not LayerSource.STORAGE]
        assert sum(sizes) >= MIN_IMPORT_BYTES > sum(sizes[:-1])
        assert any(one.source in (LayerSource.BUILT, LayerSource.SHARED) for one in entries[depth:])
