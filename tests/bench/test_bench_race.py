"""The race with participants that are only values: who has a turn when, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildkit.bench.counting_proxy import Toll
from buildkit.bench.measure import Cost, Ran
from buildkit.bench.participant import Built, Goal, Step
from buildkit.bench.project_copy import Change
from buildkit.bench.race import Race
from buildkit.bench.results import Sample, SampleVerdict
from buildkit.bench.scenarios import Scenario
from buildkit.errors import ToolError
from buildkit.events import Note, ignore_event
from buildkit.tools.process import Finished

RIGHT = Finished(code=0, stdout=b"", stderr=b"")


class Runner:
    """Builds at once; its image holds what the last change asks for unless it is told to be ``stale``."""

    version = "1"

    def __init__(self, name: str, arena: SimpleNamespace, untils=(Goal.RUNNABLE,)) -> None:
        self.name = name
        self.untils = untils
        self.arena = arena
        self.stale = self.fails = self.cleared = False
        self.kinds: Mapping[str, int] | None = None
        self.steps: tuple[Step, ...] = (Step(text="FROM root", cached=True),)
        self.kept: tuple[str, ...] = ()
        self.lost = ""

    def clear(self, until: Goal) -> None:
        self.arena.turns.append(f"clear {self.name}")
        if self.lost:
            raise ToolError(self.lost, output="log: no")

    def build(self, until: Goal) -> Built:
        self.arena.turns.append(self.name)
        self.arena.gate.toll = Toll(self.arena.gate.toll.up + 10, 0)
        cost = Cost(seconds=1.0, cpu=0.5, memory=100)
        ran = Ran(finished=RIGHT, output="", cost=cost)
        if self.fails:
            ran = Ran(finished=None, output="STEP 1\nno space left", cost=cost, error="exit code 1")
        return Built(ran=ran, kinds=self.kinds, steps=self.steps, kept=self.kept)

    def look(self, until: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        if self.stale == "gone":
            raise ToolError("no such image", output="localhost/x: not known")
        return {} if self.stale else dict(self.arena.content)

    def space(self, until: Goal) -> int:
        return 5

    def close(self) -> None:
        pass


class Place(SimpleNamespace):
    """A workload whose changes are numbers in one file."""

    def prepare_peers(self, change: Change | None = None) -> Change:
        return change or Change()

    def whole(self) -> Change:
        return Change(files=tuple(self.arena.content.items()))


@pytest.fixture
def arena(tmp_path: Path) -> SimpleNamespace:
    turns: list[str] = []
    gate = SimpleNamespace(toll=Toll())
    return SimpleNamespace(
        folder=tmp_path,
        gate=gate,
        turns=turns,
        content={"model": "m"},
        forget=lambda name: turns.append(f"forget {name}"),
    )


def edit(workload: Place, number: int) -> Change:
    workload.arena.content["app"] = str(number)
    return Change(files=(("app", str(number)),), kinds=(("files", 1),), inputs=("app",))


COLD = Scenario(name="cold", title="cold", cold=True)
NOTHING = Scenario(name="nothing", title="nothing changed")
LINE = Scenario(name="app-line", title="one line", change=edit)


def run(arena, runners, scenarios, untils=(Goal.RUNNABLE,), repeat=1, skipped=None, emit=ignore_event) -> list[Sample]:
    race = Race(
        workload=Place(arena=arena),
        participants=runners,
        scenarios=scenarios,
        untils=untils,
        repeat=repeat,
        emit=emit,
        calibrate=lambda: {"hash": 1.0},
        calibrations=[],
        skipped=[] if skipped is None else skipped,
    )
    return list(race.run())


def test_turns_rotate_and_cold_begins_with_nothing(arena) -> None:
    samples = run(arena, [Runner("a", arena), Runner("b", arena)], [COLD, NOTHING], repeat=2)
    cold = [word for name in "abba" for word in (f"forget {name}/runnable", f"clear {name}", name)]
    assert arena.turns == [*cold, "a", "b", "b", "a", "clear a", "clear b"]  # at the end, for what comes next
    assert [(one.scenario, one.participant, one.repetition) for one in samples] == [
        ("cold", "a", 0), ("cold", "b", 0), ("cold", "b", 1), ("cold", "a", 1),
        ("nothing", "a", 0), ("nothing", "b", 0), ("nothing", "b", 1), ("nothing", "a", 1),
    ]  # fmt: skip
    assert {one.up for one in samples} == {10}
    assert [one.space for one in samples] == [5] * 4 + [None] * 4


def test_without_cold_everybody_warms_up_unmeasured(arena) -> None:
    samples = run(arena, [Runner("a", arena)], [LINE])
    assert arena.turns == ["forget a/runnable", "clear a", "a", "a", "clear a"]
    assert [one.scenario for one in samples] == ["app-line"]


def test_a_fresh_runner_has_nothing_each_time(arena) -> None:
    runner = Runner("a", arena, untils=(Goal.FRESH,))
    run(arena, [runner], [COLD, LINE], untils=(Goal.RUNNABLE, Goal.FRESH), repeat=2)
    assert arena.turns[-5:-1] == ["clear a", "a", "clear a", "a"]


def test_a_stale_image_is_wrong_however_fast(arena) -> None:
    good, bad = Runner("a", arena), Runner("b", arena)
    bad.stale = True
    first, second = run(arena, [good, bad], [LINE])
    assert (first.verdict, second.verdict) == (SampleVerdict.RIGHT, SampleVerdict.WRONG)
    assert second.note == "/app is missing"
    assert not second.counts


@pytest.mark.parametrize("stale", [True, False])
def test_a_cold_image_is_looked_into(arena, stale) -> None:
    runner = Runner("a", arena)
    runner.stale = stale
    (sample,) = run(arena, [runner], [COLD])
    assert (sample.verdict, sample.note) == (
        (SampleVerdict.WRONG, "/model is missing") if stale else (SampleVerdict.RIGHT, "")
    )


ELSEWHERE = Scenario(name="elsewhere", title="elsewhere", cleared=True)


@pytest.mark.parametrize("scenario", [COLD, ELSEWHERE])
def test_who_finds_something_where_nothing_was_is_wrong(arena, scenario) -> None:
    ours, peer = Runner("a", arena), Runner("b", arena)
    ours.kinds, ours.kept = {}, ("deps/bulk",)
    peer.steps = (Step(text="FROM root", cached=True), Step(text="COPY model /m", cached=True))
    samples = [one for one in run(arena, [ours, peer], [scenario]) if one.scenario == scenario.name]
    assert [(one.verdict, one.note) for one in samples] == [
        (SampleVerdict.WRONG, "found, where nothing was: deps/bulk"),
        (SampleVerdict.WRONG, "found, where nothing was: COPY model /m"),
    ]


def test_elsewhere_the_registry_has_it_and_nobody_else(arena) -> None:
    run(arena, [Runner("a", arena)], [COLD, ELSEWHERE], repeat=2)
    cold = ["forget a/runnable", "clear a", "a"]
    assert arena.turns == [*cold, *cold, "clear a", "a", "clear a", "a", "clear a"]


def test_a_peer_whose_output_says_nothing_is_wrong(arena) -> None:
    runner = Runner("a", arena)
    runner.steps = ()
    samples = run(arena, [runner], [COLD, LINE])
    assert {(one.verdict, one.note) for one in samples} == {
        (SampleVerdict.WRONG, "what it did cannot be read from its output")
    }


@pytest.mark.parametrize("until", Goal)
def test_who_cannot_begin_has_failed_and_the_others_race(arena, until) -> None:
    good, bad = Runner("a", arena, untils=(until,)), Runner("b", arena, untils=(until,))
    bad.lost = "the daemon does not answer"
    skipped = []
    samples = run(arena, [good, bad], [LINE], untils=(until,), skipped=skipped)
    assert [(one.participant, one.verdict, one.note, one.output) for one in samples] == [
        ("b", SampleVerdict.FAILED, "the daemon does not answer: log: no", "log: no"),
        ("a", SampleVerdict.RIGHT, "", ""),
    ]
    assert [(one.participant, one.why) for one in skipped] == [("b", "its first build failed")]


def test_who_cannot_be_cleared_at_the_end_is_said(arena) -> None:
    runner, said = Runner("a", arena), []

    def lose(_workload: Place, number: int) -> Change:
        runner.lost = "no room"
        return Change()

    run(arena, [runner], [Scenario(name="x", title="x", change=lose)], emit=said.append)
    assert [event.text for event in said if isinstance(event, Note)] == ["a could not be cleared: no room"]


def test_each_repetition_is_another_change_and_older_ones_count(arena) -> None:
    samples = run(arena, [Runner("a", arena)], [LINE, NOTHING], repeat=3)
    assert arena.content["app"] == "3"
    assert {one.verdict for one in samples} == {SampleVerdict.RIGHT}


@pytest.mark.parametrize("kinds", [{"files": 2}, {"files": 1, "model": 1}, {}])
def test_more_or_less_than_had_to_be_built_is_said(arena, kinds) -> None:
    runner = Runner("a", arena)
    runner.kinds = kinds
    (sample,) = run(arena, [runner], [LINE])
    assert (sample.verdict, sample.note.startswith("layers:")) == (SampleVerdict.EXCESS, True)


def test_a_peer_that_repeats_what_did_not_change_is_said(arena) -> None:
    runner = Runner("a", arena)
    runner.steps = (Step(text="COPY model /m", cached=False), Step(text="COPY app /app", cached=False))
    (sample,) = run(arena, [runner], [LINE])
    assert (sample.verdict, sample.note) == (SampleVerdict.EXCESS, "done again without need: COPY model /m")


def test_a_failure_is_a_result_with_its_output(arena) -> None:
    good, bad = Runner("a", arena), Runner("b", arena)
    bad.fails = True
    skipped = []
    samples = run(arena, [good, bad], [COLD, NOTHING], skipped=skipped)
    (failed,) = (one for one in samples if one.verdict is SampleVerdict.FAILED)
    assert (failed.scenario, failed.participant) == ("cold", "b")
    assert (failed.note, failed.output) == ("exit code 1: no space left", "STEP 1\nno space left")
    assert [(one.participant, one.why) for one in skipped] == [("b", "its first build failed")]
    assert [one.scenario for one in samples if one.participant == "a"] == ["cold", "nothing"]
    assert {one.verdict for one in samples if one.participant == "a"} == {SampleVerdict.RIGHT}


def test_who_fails_later_may_try_again(arena) -> None:
    runner = Runner("a", arena)

    def fail_once(workload: Place, number: int) -> Change:
        runner.fails = number == 1
        return edit(workload, number)

    samples = run(arena, [runner], [COLD, Scenario(name="x", title="x", change=fail_once)], repeat=2)
    assert [one.verdict for one in samples[2:]] == [SampleVerdict.FAILED, SampleVerdict.RIGHT]


def test_an_image_that_cannot_be_looked_into_failed(arena) -> None:
    runner = Runner("a", arena)
    runner.stale = "gone"
    samples = run(arena, [runner], [COLD])
    assert [(one.verdict, one.note) for one in samples] == [
        (SampleVerdict.FAILED, "no such image localhost/x: not known")
    ]


def test_what_a_workload_lacks_is_skipped_with_its_reason(arena) -> None:
    skipped = []
    scenario = Scenario(name="one-model", title="one model", change=edit, lacks=lambda _workload: "no model")
    assert run(arena, [Runner("a", arena)], [scenario], skipped=skipped) == []
    assert [(one.scenario, one.why) for one in skipped] == [("one-model", "no model")]
