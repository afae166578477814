"""How one attempt's loss changes the request for the next."""

from __future__ import annotations

import pytest

from buildkit.build.build_request import BuildRequest, Lost, describe_loss, merge_reported
from buildkit.errors import BlobsMissingError, DamagedError, LostError, RemoteLostError
from buildkit.events import Note
from buildkit.oci.blob import LayerResult
from buildkit.plan.plan import LayerSource, Plan, PlannedLayer
from tests.plan.planfakes import composer

COMPOSITION = composer().compose("base")
SPEC = COMPOSITION.specs[0]
KEY = SPEC.key
RESULT = LayerResult(blobs=())
REQUEST = BuildRequest(stage="base")


def planned(source: LayerSource, *, why: str = "") -> PlannedLayer:
    made = None if source is LayerSource.BUILT else RESULT
    return PlannedLayer(spec=SPEC, source=source, unpacked=1, result=made, why=why)


def lost(error: LostError) -> Lost:
    return Lost(error=error, reported={KEY: planned(LayerSource.SHARED)}, only_remote={KEY: frozenset({"aa", "bb"})})


@pytest.mark.parametrize("error", [LostError("gone"), DamagedError("damaged", digests=("aa",))])
def test_after_a_loss_in_the_cache_the_next_plan_does_not_rely_on_local_storage(error: LostError) -> None:
    request = REQUEST.after(lost(error))
    assert (request.use_storage, request.fetch) == (False, frozenset())
    assert request.reported == lost(error).reported


@pytest.mark.parametrize("reported", [True, False])
def test_after_a_loss_in_the_remote_cache_only_the_plan_changes(reported: bool) -> None:
    request = REQUEST.after(lost(RemoteLostError("gone", reported=reported)))
    assert (request.use_storage, request.fetch) == (True, frozenset())


def test_blobs_that_a_registry_lacks_are_fetched_if_the_remote_cache_has_them() -> None:
    request = REQUEST.after(lost(BlobsMissingError("lacks", digests=("aa",))))
    assert (request.use_storage, request.fetch) == (True, frozenset({KEY}))


def test_blobs_that_a_registry_lacks_and_only_storage_has_are_built() -> None:
    request = REQUEST.after(lost(BlobsMissingError("lacks", digests=("cc",))))
    assert (request.use_storage, request.fetch) == (False, frozenset())


def test_requests_add_up_over_attempts() -> None:
    request = REQUEST.after(lost(BlobsMissingError("lacks", digests=("aa",)))).after(lost(LostError("gone")))
    assert (request.use_storage, request.fetch) == (False, frozenset({KEY}))
    assert request.after(lost(RemoteLostError("gone"))).use_storage is False


def test_each_loss_is_reported_once() -> None:
    assert describe_loss(LostError("x is gone"), "r/x") == Note(text="x is gone; planning again", warning=True)
    assert describe_loss(RemoteLostError("x is gone"), "r/x") == Note(text="x is gone; planning again", warning=True)
    assert describe_loss(RemoteLostError("x is gone", reported=True), "r/x") is None
    note = describe_loss(BlobsMissingError("x", digests=("aa", "bb")), "r/x")
    assert note == Note(text="r/x lacks 2 layers that must be fetched or built here first")


def test_build_reason_is_reported_though_a_later_plan_finds_the_layer() -> None:
    built, found = planned(LayerSource.BUILT, why="first build"), planned(LayerSource.CACHE)
    first = merge_reported({}, Plan(composition=COMPOSITION, entries=(built,)))
    assert merge_reported(first, Plan(composition=COMPOSITION, entries=(found,))) == {KEY: built}


@pytest.mark.parametrize("source", [LayerSource.BUILT, LayerSource.SHARED])
def test_action_of_a_later_plan_on_a_layer_is_reported(source: LayerSource) -> None:
    first = merge_reported({}, Plan(composition=COMPOSITION, entries=(planned(LayerSource.STORAGE),)))
    later = planned(source)
    assert merge_reported(first, Plan(composition=COMPOSITION, entries=(later,))) == {KEY: later}
