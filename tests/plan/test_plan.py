"""The plan: where every layer comes from, and why."""

from __future__ import annotations

import pytest
from planfakes import blob_of, composer

from buildkit.digest import DiffId, Key
from buildkit.oci.blob import LayerResult
from buildkit.plan.plan import LayerSource, LedgerView, make_plan
from buildkit.plan.spec import Spec

COMPOSITION = composer().compose("runtime")
KEYS = [spec.key for spec in COMPOSITION.specs]
STORAGE, CACHE, SHARED, BUILT = LayerSource.STORAGE, LayerSource.CACHE, LayerSource.SHARED, LayerSource.BUILT


def made_of(key: Key, count: int = 1) -> LayerResult:
    return LayerResult(blobs=tuple(blob_of(f"{key.hex} {number}") for number in range(count)))


MADE = {key: made_of(key, 2 if number == 3 else 1) for number, key in enumerate(KEYS)}  # a root may have several
STORED = [blob.diff_id for key in KEYS for blob in MADE[key].blobs]
COUNT = len(KEYS)


def say_name(spec: Spec) -> str:
    return f"why {spec.name}"


def sources(
    known: dict[Key, LayerResult] = MADE, present: bool = True, stored: list[DiffId] = STORED, lost: int | None = None
) -> list[LayerSource]:
    gone = set() if lost is None else {blob.digest for blob in MADE[KEYS[lost]].blobs[-1:]}
    is_present = lambda blob: present and blob.digest not in gone  # noqa: E731
    plan = make_plan(COMPOSITION, LedgerView(results=known, is_present=is_present, stored=stored, why=say_name))
    assert [entry.spec for entry in plan.entries] == list(COMPOSITION.specs)
    assert all(
        (entry.result is None) is (entry.spec.key not in known) or entry.source is BUILT for entry in plan.entries
    )
    assert plan.missing == tuple(entry for entry in plan.entries if entry.source is BUILT)
    assert all(bool(entry.why) is (entry.source is BUILT) for entry in plan.entries)
    return [entry.source for entry in plan.entries]


def test_everything_is_built_if_nothing_is_known() -> None:
    assert sources({}) == [BUILT] * COUNT


def test_image_in_storage_needs_no_blob() -> None:
    assert sources(present=False) == [STORAGE] * COUNT


def test_cached_image_is_taken_from_the_cache() -> None:
    assert sources(stored=[]) == [CACHE] * COUNT


@pytest.mark.parametrize("depth", range(COUNT))
def test_storage_has_a_layer_only_on_top_of_all_layers_below(depth: int) -> None:
    blobs = sum(len(MADE[key].blobs) for key in KEYS[:depth])
    stored = [*STORED[:blobs], DiffId.of(b"other"), *STORED[blobs + 1 :]]
    assert sources(stored=stored) == [STORAGE] * depth + [CACHE] * (COUNT - depth)


def test_root_of_several_layers_is_present_only_as_a_whole() -> None:
    assert sources(stored=STORED[:4]) == [STORAGE] * 3 + [CACHE] * (COUNT - 3)
    assert sources(stored=STORED[:5]) == [STORAGE] * 4 + [CACHE] * (COUNT - 4)


def test_layers_above_a_built_layer_come_from_the_cache() -> None:
    known = {key: made for key, made in MADE.items() if key != KEYS[2]}
    assert sources(known) == [STORAGE, STORAGE, BUILT] + [CACHE] * (COUNT - 3)


def test_missing_blob_is_built_again_with_a_reason() -> None:
    assert sources(stored=[], lost=3) == [CACHE] * 3 + [BUILT] + [CACHE] * (COUNT - 4)


def test_remote_layer_is_not_built_and_local_ones_are_preferred() -> None:
    view = LedgerView(results=MADE, is_present=lambda _blob: False, stored=STORED[:2], shared=set(KEYS[:4]))
    entries = make_plan(COMPOSITION, view).entries
    assert [entry.source for entry in entries] == [STORAGE] * 2 + [SHARED] * 2 + [BUILT] * (COUNT - 4)
    assert all((entry.result is None) is (entry.source is BUILT) for entry in entries)
    here = LedgerView(results=MADE, is_present=lambda _blob: True, shared=set(KEYS))
    assert {entry.source for entry in make_plan(COMPOSITION, here).entries} == {CACHE}


def test_size_of_a_layer_is_known_after_its_first_build() -> None:
    plan = make_plan(COMPOSITION, LedgerView(results=MADE, is_present=lambda _blob: False))
    assert [entry.unpacked for entry in plan.entries] == [len(MADE[key].blobs) for key in KEYS]


@pytest.mark.parametrize("made", [{}, MADE])
def test_only_layers_to_build_have_a_reason(made: dict[Key, LayerResult]) -> None:
    plan = make_plan(COMPOSITION, LedgerView(results=made, is_present=lambda _blob: False, why=say_name))
    assert [entry.why for entry in plan.entries] == [f"why {spec.name}" for spec in COMPOSITION.specs]
    asked: list[Spec] = []
    view = LedgerView(results=MADE, is_present=lambda _blob: True, why=lambda spec: asked.append(spec) or "")
    assert not make_plan(COMPOSITION, view).missing
    assert asked == []
