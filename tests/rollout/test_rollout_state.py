"""The state of a rollout: steps, the way back, and a file that others may have damaged."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from buildkit.declare.condition import parse_condition
from buildkit.declare.rollout import Promotion, Rollout, Version
from buildkit.errors import DefinitionError
from buildkit.rollout.decide import RolloutAction, RolloutDecision
from buildkit.rollout.hpa import ScaleEvent, ScaleHistory
from buildkit.rollout.state import (
    RolloutState,
    VersionReplicas,
    advance,
    begin,
    find_next_step,
    follow,
    parse_state,
    promote,
    render_state,
    take_back,
)

SPLIT = (("new", 100), ("old", 900))
ROLLOUT = Rollout(
    by="address",
    versions=(Version(name="new"), Version(name="old")),
    split=SPLIT,
    control="old",
    promote=Promotion(seconds=60, checks=parse_condition("p95 < 1s"), steps=(100, 500, 1000)),
)


def decided(action: RolloutAction) -> RolloutDecision:
    return RolloutDecision(action=action, reason="because")


def test_a_candidate_goes_step_by_step_to_the_end() -> None:
    state, seen = begin(SPLIT, 1.0), []
    while find_next_step(state, ROLLOUT) is not None:
        state = advance(state, ROLLOUT, decided(RolloutAction.PROMOTE), state.since + 60)
        seen.append((state.share("new"), state.share("old"), state.since))
    assert seen == [(500, 500, 61.0), (1000, 0, 121.0)]
    with pytest.raises(DefinitionError, match="new has all users that it may get"):
        promote(state, ROLLOUT, "", 200.0)
    assert promote(state, ROLLOUT, "by hand", 200.0, share=250).shares == (("new", 250), ("old", 750))


def test_answers_count_after_the_clock_was_set_back() -> None:
    state = begin(SPLIT, 5000.0)
    assert (state.counts_from(5001.0), state.counts_from(1000.0)) == (5000.0, 0.0)


def test_hold_changes_nothing_and_an_abort_gives_the_control_everybody() -> None:
    state = begin(SPLIT, 1.0)
    assert advance(state, ROLLOUT, decided(RolloutAction.HOLD), 5.0) is state
    aborted = advance(state, ROLLOUT, decided(RolloutAction.ABORT), 5.0)
    assert (aborted.shares, aborted.ended) == ((("new", 0), ("old", 1000)), True)
    assert [entry.action for entry in aborted.history] == ["declared", "back"]
    assert aborted.history[-1].reason == "aborted: because"
    assert not promote(aborted, ROLLOUT, "by hand", 9.0).ended


def test_a_changed_declaration_begins_anew_and_keeps_the_history() -> None:
    state = take_back(begin(SPLIT, 1.0), ROLLOUT, "by hand", 2.0)
    assert follow(state, SPLIT, 3.0) is state
    again = follow(state, (("new", 200), ("old", 800)), 3.0)
    assert (again.share("new"), again.ended, len(again.history)) == (200, False, 3)


def test_the_file_holds_everything_and_the_history_does_not_grow_for_ever() -> None:
    history = ScaleHistory(recommended=(ScaleEvent(time=1.5, replicas=3),), done=(ScaleEvent(time=2.0, replicas=-1),))
    state = begin(SPLIT, 1.0).with_replicas(VersionReplicas(version="new", running=(1, 3), history=history))
    assert parse_state(render_state(state), "f") == state
    for number in range(300):
        state = take_back(state, ROLLOUT, "again", float(number))
    assert len(state.history) == 200


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": 1}', '{"format": 1, "declared": 5, "shares": [], "since": 0, "ended": false}']
)
def test_a_damaged_file_is_named_with_what_to_do(text: str) -> None:
    with pytest.raises(DefinitionError, match=r"/s/state\.json: is no state of a rollout") as raised:
        parse_state(text, "/s/state.json")
    assert raised.value.hint.startswith("rm /s/state.json")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"shares": [["new", 100], ["old", 900]], "since"', '"shares": [["new", 5000], ["old", 900]], "since"'),
        ('"shares": [["new", 100], ["old", 900]], "since"', '"shares": [["new", -100], ["old", 1100]], "since"'),
        ('"shares": [["new", 100], ["old", 900]], "since"', '"shares": [["new", Infinity]], "since"'),
        ('"shares": [["new", 100], ["old", 900]], "since"', '"shares": [], "since"'),
        ('"since": 1.0', '"since": NaN'),
        ('"since": 1.0', '"since": "yesterday"'),
        ('"time": 1.0', '"time": 1e300'),
        ('"running": [1]', '"running": [0]'),
        ('"running": [1]', '"running": 1'),
        ('{"recommended": [], "done": []}', "[]"),
        ('"recommended": []', '"recommended": [{"time": "x", "replicas": "y"}]'),
        ('"replicas": [', '"replicas": [' + "[" * 100_000),
    ],
)
def test_an_edited_file_is_refused_before_the_proxy_learns_it(old: str, new: str) -> None:
    state = begin(SPLIT, 1.0).with_replicas(VersionReplicas(version="new", running=(1,)))
    text = json.dumps(json.loads(render_state(state)))
    assert parse_state(text, "f") == state
    assert old in text
    with pytest.raises(DefinitionError, match=r"^f: is no state of a rollout: ") as raised:
        parse_state(text.replace(old, new, 1), "f")
    assert raised.value.hint.startswith("rm f")


def test_the_format_of_a_later_release_is_refused() -> None:
    later = render_state(begin(SPLIT, 1.0)).replace('"format": 1', '"format": 2')
    with pytest.raises(DefinitionError, match="format 2 is another buildkit's"):
        parse_state(later, "f")


def test_three_versions_are_not_promoted() -> None:
    three = replace(ROLLOUT, split=(("a", 100), ("new", 100), ("old", 800)))
    with pytest.raises(DefinitionError, match="a promotion is between two versions"):
        promote(RolloutState(declared=(), shares=(), since=0.0), three, "", 1.0)
