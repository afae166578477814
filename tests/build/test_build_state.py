"""The state of a build: known layers, results, and counts of bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from buildkit.build.build_state import BuildState
from buildkit.build.tally import MovedBytes, Tally
from buildkit.digest import Key
from buildkit.oci.blob import LayerResult
from tests.plan.planfakes import composer

KEY, OTHER = Key.of(b"k"), Key.of(b"other")
RESULT = LayerResult(blobs=())


def test_state_distinguishes_layers_here_from_layers_only_in_a_remote_cache() -> None:
    state = BuildState()
    assert not state.is_known(KEY)
    assert not state.is_here(KEY)
    state.learn({KEY: RESULT}, only_remote=True)
    assert (state.is_known(KEY), state.is_only_remote(KEY), state.is_here(KEY)) == (True, True, False)
    state.learn({KEY: RESULT})
    assert (state.is_known(KEY), state.is_only_remote(KEY), state.is_here(KEY)) == (True, False, True)


def test_state_forgets_a_lost_layer_and_where_it_was() -> None:
    state = BuildState()
    state.learn({KEY: RESULT, OTHER: RESULT}, only_remote=True)
    state.lose(KEY)
    state.lose(Key.of(b"never known"))
    assert dict(state.results) == {OTHER: RESULT}
    assert not state.is_only_remote(KEY)
    assert state.is_only_remote(OTHER)


def test_state_remembers_what_was_built_and_found_after_results_are_forgotten() -> None:
    state, spec = BuildState(), composer().compose("base").specs[0]
    state.learn_built(spec, RESULT)
    state.learn_found({OTHER: RESULT})
    state.forget_results()
    assert dict(state.results) == {}
    assert state.built_now == {spec.key: spec}
    assert state.was_found(OTHER)
    assert not state.was_found(spec.key)


def test_results_are_a_live_read_only_view() -> None:
    state = BuildState()
    results = state.results
    state.learn({KEY: RESULT})
    assert results[KEY] is RESULT
    with pytest.raises(TypeError):
        results[OTHER] = RESULT  # type: ignore[index]


def test_tally_adds_up_bytes_of_threads_and_separates_builds() -> None:
    tally = Tally()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _n: tally.add(fetched=1, pushed=2), range(200)))
    before = tally.read()
    assert before == MovedBytes(fetched=200, pushed=400)
    tally.add(built=5)
    assert tally.read() - before == MovedBytes(built=5)
