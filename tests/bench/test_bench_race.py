"""The race with fake participants: the order of their turns, and the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildkit.bench.counting_proxy import Traffic
from buildkit.bench.measure import MeasuredRun, RunCost
from buildkit.bench.participant import BuildOutcome, Goal, Step
from buildkit.bench.project_copy import ProjectChange
from buildkit.bench.race import Race
from buildkit.bench.results import Sample, SampleVerdict
from buildkit.bench.scenarios import Scenario
from buildkit.errors import ToolError
from buildkit.events import Note, ignore_event
from buildkit.tools.process import CommandResult

RIGHT = CommandResult(code=0, stdout=b"", stderr=b"")


class Runner:
    """A participant without delay; its image has the last change unless it is ``stale``."""

    version = "1"

    def __init__(self, name: str, environment: SimpleNamespace, goals=(Goal.RUNNABLE,)) -> None:
        self.name = name
        self.goals = goals
        self.environment = environment
        self.stale = self.fails = self.cleared = False
        self.kinds: Mapping[str, int] | None = None
        self.steps: tuple[Step, ...] = (Step(text="FROM root", cached=True),)
        self.kept: tuple[str, ...] = ()
        self.lost = ""

    def clear(self, goal: Goal) -> None:
        self.environment.turns.append(f"clear {self.name}")
        if self.lost:
            raise ToolError(self.lost, output="log: no")

    def build(self, goal: Goal) -> BuildOutcome:
        self.environment.turns.append(self.name)
        self.environment.proxy.traffic = Traffic(self.environment.proxy.traffic.up + 10, 0)
        cost = RunCost(seconds=1.0, cpu=0.5, memory=100)
        ran = MeasuredRun(finished=RIGHT, output="", cost=cost)
        if self.fails:
            ran = MeasuredRun(finished=None, output="STEP 1\nno space left", cost=cost, error="exit code 1")
        return BuildOutcome(ran=ran, kinds=self.kinds, steps=self.steps, kept=self.kept)

    def inspect(self, goal: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        if self.stale == "gone":
            raise ToolError("no such image", output="localhost/x: not known")
        return {} if self.stale else dict(self.environment.content)

    def space(self, goal: Goal) -> int:
        return 5

    def close(self) -> None:
        pass


class Place(SimpleNamespace):
    """A workload whose changes are numbers in one file."""

    def prepare_peers(self, change: ProjectChange | None = None) -> ProjectChange:
        return change or ProjectChange()

    def whole(self) -> ProjectChange:
        return ProjectChange(files=tuple(self.environment.content.items()))


@pytest.fixture
def environment(tmp_path: Path) -> SimpleNamespace:
    turns: list[str] = []
    proxy = SimpleNamespace(traffic=Traffic())
    return SimpleNamespace(
        folder=tmp_path,
        proxy=proxy,
        turns=turns,
        content={"model": "m"},
        settle=lambda: None,
        forget=lambda name: turns.append(f"forget {name}"),
    )


def edit(workload: Place, number: int) -> ProjectChange:
    workload.environment.content["app"] = str(number)
    return ProjectChange(files=(("app", str(number)),), kinds=(("files", 1),), inputs=("app",))


COLD = Scenario(name="cold", title="cold", cold=True)
NOTHING = Scenario(name="nothing", title="nothing changed")
LINE = Scenario(name="app-line", title="one line", change=edit)


def run(
    environment, runners, scenarios, goals=(Goal.RUNNABLE,), repeat=1, skipped=None, emit=ignore_event
) -> list[Sample]:
    race = Race(
        workload=Place(environment=environment),
        participants=runners,
        scenarios=scenarios,
        goals=goals,
        repeat=repeat,
        emit=emit,
        calibrate=lambda: {"hash": 1.0},
        calibrations=[],
        skipped=[] if skipped is None else skipped,
    )
    return list(race.run())


def test_turns_rotate_and_cold_builds_start_cleared(environment) -> None:
    samples = run(environment, [Runner("a", environment), Runner("b", environment)], [COLD, NOTHING], repeat=2)
    cold = [word for name in "abba" for word in (f"forget {name}/runnable", f"clear {name}", name)]
    assert environment.turns == [*cold, "a", "b", "b", "a", "clear a", "clear b"]  # at the end, for what comes next
    assert [(one.scenario, one.participant, one.repetition) for one in samples] == [
        ("cold", "a", 0), ("cold", "b", 0), ("cold", "b", 1), ("cold", "a", 1),
        ("nothing", "a", 0), ("nothing", "b", 0), ("nothing", "b", 1), ("nothing", "a", 1),
    ]  # fmt: skip
    assert {one.up for one in samples} == {10}
    assert [one.space for one in samples] == [5] * 4 + [None] * 4


def test_race_without_cold_scenario_warms_up_unmeasured(environment) -> None:
    samples = run(environment, [Runner("a", environment)], [LINE])
    assert environment.turns == ["forget a/runnable", "clear a", "a", "a", "clear a"]
    assert [one.scenario for one in samples] == ["app-line"]


def test_fresh_goal_clears_before_every_turn(environment) -> None:
    runner = Runner("a", environment, goals=(Goal.FRESH,))
    run(environment, [runner], [COLD, LINE], goals=(Goal.RUNNABLE, Goal.FRESH), repeat=2)
    assert environment.turns[-5:-1] == ["clear a", "a", "clear a", "a"]


def test_stale_image_is_wrong(environment) -> None:
    good, bad = Runner("a", environment), Runner("b", environment)
    bad.stale = True
    first, second = run(environment, [good, bad], [LINE])
    assert (first.verdict, second.verdict) == (SampleVerdict.RIGHT, SampleVerdict.WRONG)
    assert second.note == "/app is missing"
    assert not second.counts


@pytest.mark.parametrize("stale", [True, False])
def test_cold_image_is_inspected(environment, stale) -> None:
    runner = Runner("a", environment)
    runner.stale = stale
    (sample,) = run(environment, [runner], [COLD])
    assert (sample.verdict, sample.note) == (
        (SampleVerdict.WRONG, "/model is missing") if stale else (SampleVerdict.RIGHT, "")
    )


ELSEWHERE = Scenario(name="elsewhere", title="elsewhere", cleared=True)


@pytest.mark.parametrize("scenario", [COLD, ELSEWHERE])
def test_cold_build_with_cache_hits_is_wrong(environment, scenario) -> None:
    ours, peer = Runner("a", environment), Runner("b", environment)
    ours.kinds, ours.kept = {}, ("deps/bulk",)
    peer.steps = (Step(text="FROM root", cached=True), Step(text="COPY model /m", cached=True))
    samples = [one for one in run(environment, [ours, peer], [scenario]) if one.scenario == scenario.name]
    assert [(one.verdict, one.note) for one in samples] == [
        (SampleVerdict.WRONG, "found, where nothing was: deps/bulk"),
        (SampleVerdict.WRONG, "found, where nothing was: COPY model /m"),
    ]


def test_cleared_scenario_keeps_only_the_registry(environment) -> None:
    run(environment, [Runner("a", environment)], [COLD, ELSEWHERE], repeat=2)
    cold = ["forget a/runnable", "clear a", "a"]
    assert environment.turns == [*cold, *cold, "clear a", "a", "clear a", "a", "clear a"]


def test_peer_with_unreadable_output_is_wrong(environment) -> None:
    runner = Runner("a", environment)
    runner.steps = ()
    samples = run(environment, [runner], [COLD, LINE])
    assert {(one.verdict, one.note) for one in samples} == {
        (SampleVerdict.WRONG, "what it did cannot be read from its output")
    }


@pytest.mark.parametrize("goal", Goal)
def test_participant_that_cannot_start_fails_and_others_race(environment, goal) -> None:
    good, bad = Runner("a", environment, goals=(goal,)), Runner("b", environment, goals=(goal,))
    bad.lost = "the daemon does not answer"
    skipped = []
    samples = run(environment, [good, bad], [LINE], goals=(goal,), skipped=skipped)
    assert [(one.participant, one.verdict, one.note, one.output) for one in samples] == [
        ("b", SampleVerdict.FAILED, "the daemon does not answer: log: no", "log: no"),
        ("a", SampleVerdict.RIGHT, "", ""),
    ]
    assert [(one.participant, one.why) for one in skipped] == [("b", "its first build failed")]


def test_failed_final_clear_is_a_warning(environment) -> None:
    runner, events = Runner("a", environment), []

    def lose(_workload: Place, number: int) -> ProjectChange:
        runner.lost = "no room"
        return ProjectChange()

    run(environment, [runner], [Scenario(name="x", title="x", change=lose)], emit=events.append)
    assert [event.text for event in events if isinstance(event, Note)] == ["a could not be cleared: no room"]


def test_each_repetition_makes_a_new_change_on_top_of_earlier_ones(environment) -> None:
    samples = run(environment, [Runner("a", environment)], [LINE, NOTHING], repeat=3)
    assert environment.content["app"] == "3"
    assert {one.verdict for one in samples} == {SampleVerdict.RIGHT}


@pytest.mark.parametrize("kinds", [{"files": 2}, {"files": 1, "model": 1}, {}])
def test_excess_and_missing_layers_are_reported(environment, kinds) -> None:
    runner = Runner("a", environment)
    runner.kinds = kinds
    (sample,) = run(environment, [runner], [LINE])
    assert (sample.verdict, sample.note.startswith("layers:")) == (SampleVerdict.EXCESS, True)


def test_peer_that_repeats_unchanged_steps_is_reported(environment) -> None:
    runner = Runner("a", environment)
    runner.steps = (Step(text="COPY model /m", cached=False), Step(text="COPY app /app", cached=False))
    (sample,) = run(environment, [runner], [LINE])
    assert (sample.verdict, sample.note) == (SampleVerdict.EXCESS, "done again without need: COPY model /m")


def test_failure_is_a_sample_with_output(environment) -> None:
    good, bad = Runner("a", environment), Runner("b", environment)
    bad.fails = True
    skipped = []
    samples = run(environment, [good, bad], [COLD, NOTHING], skipped=skipped)
    (failed,) = (one for one in samples if one.verdict is SampleVerdict.FAILED)
    assert (failed.scenario, failed.participant) == ("cold", "b")
    assert (failed.note, failed.output) == ("exit code 1: no space left", "STEP 1\nno space left")
    assert [(one.participant, one.why) for one in skipped] == [("b", "its first build failed")]
    assert [one.scenario for one in samples if one.participant == "a"] == ["cold", "nothing"]
    assert {one.verdict for one in samples if one.participant == "a"} == {SampleVerdict.RIGHT}


def test_participant_that_fails_later_stays_in_the_race(environment) -> None:
    runner = Runner("a", environment)

    def fail_once(workload: Place, number: int) -> ProjectChange:
        runner.fails = number == 1
        return edit(workload, number)

    samples = run(environment, [runner], [COLD, Scenario(name="x", title="x", change=fail_once)], repeat=2)
    assert [one.verdict for one in samples[2:]] == [SampleVerdict.FAILED, SampleVerdict.RIGHT]


def test_image_that_cannot_be_inspected_is_failed(environment) -> None:
    runner = Runner("a", environment)
    runner.stale = "gone"
    samples = run(environment, [runner], [COLD])
    assert [(one.verdict, one.note) for one in samples] == [
        (SampleVerdict.FAILED, "no such image localhost/x: not known")
    ]


def test_unsupported_scenario_is_skipped_with_a_reason(environment) -> None:
    skipped = []
    scenario = Scenario(name="one-model", title="one model", change=edit, lacks=lambda _workload: "no model")
    assert run(environment, [Runner("a", environment)], [scenario], skipped=skipped) == []
    assert [(one.scenario, one.why) for one in skipped] == [("one-model", "no model")]
