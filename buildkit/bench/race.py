"""The race: the order of turns, and the sample that each turn yields.

Participants take turns, a different one first in each repetition, so that other load on the machine hits all of them
alike. Written data is flushed between turns, and free memory filled if that is asked for (`bench.held_memory`), so
that no participant pays for another's. After each turn the image is inspected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from buildkit.bench.counting_proxy import Traffic
from buildkit.bench.measure import MeasuredRun, RunCost
from buildkit.bench.participant import (
    BuildOutcome,
    Expectation,
    Goal,
    Participant,
    check_cold,
    check_kinds,
    check_steps,
)
from buildkit.bench.project_copy import ProjectChange
from buildkit.bench.results import Sample, SampleVerdict, Skipped
from buildkit.bench.scenarios import Scenario
from buildkit.bench.workload import Workload
from buildkit.errors import BuildError
from buildkit.events import Emit, Note, StepFailed, StepFinished, StepStarted

_KEPT_OUTPUT = 4000


@dataclass(slots=True, kw_only=True)
class Race:
    """A workload and its participants. `run` yields one sample at a time."""

    workload: Workload
    participants: Sequence[Participant]
    scenarios: Sequence[Scenario]
    goals: Sequence[Goal]
    repeat: int
    emit: Emit
    calibrate: Callable[[], dict[str, float]]
    calibrations: list[dict[str, float]]
    skipped: list[Skipped]
    _number: int = 0  # of changes: no two are the same

    def run(self) -> Iterator[Sample]:
        """Race for each goal in turn. Raises Interrupted; a participant's failure is a sample."""
        for goal in self.goals:
            racing = [participant for participant in self.participants if goal in participant.goals]
            if racing:
                yield from self._run_until(goal, racing)

    def _run_until(self, goal: Goal, racing: Sequence[Participant]) -> Iterator[Sample]:
        expected = Expectation()
        chosen = [
            scenario for scenario in self.scenarios if goal in scenario.goals and not self._skip_reason(scenario, goal)
        ]
        cold = next((scenario for scenario in chosen if scenario.cold), None)
        self.workload.prepare_peers()
        failed: set[str] = set()
        for sample in self._start(goal, racing, cold):
            failed |= {sample.participant} if sample.verdict is SampleVerdict.FAILED else set()
            yield sample
        for name in sorted(failed):
            self.skipped.append(Skipped(until=goal, scenario="", participant=name, why="its first build failed"))
        remaining = [participant for participant in racing if participant.name not in failed]
        for scenario in chosen:
            if remaining and not scenario.cold:
                yield from self._run_scenario(goal, remaining, scenario, expected)
        for participant in remaining:
            self._clear(participant, goal)

    def _clear(self, participant: Participant, goal: Goal) -> None:
        """Free the gigabytes of images that are no longer needed."""
        try:
            participant.clear(goal)
        except BuildError as error:
            self.emit(Note(text=f"{participant.name} could not be cleared: {error.message}", warning=True))

    def _skip_reason(self, scenario: Scenario, goal: Goal) -> str:
        why = scenario.lacks(self.workload)
        if why:
            self.skipped.append(Skipped(until=goal, scenario=scenario.name, participant="", why=why))
        return why

    def _start(self, goal: Goal, racing: Sequence[Participant], cold: Scenario | None) -> Iterator[Sample]:
        """Run the cold builds. If they were not requested, run one per participant, unmeasured, for later scenarios."""
        expected = Expectation()
        expected.add(self.workload.whole())
        for repetition in range(self.repeat if cold else 1):
            self._calibrate()
            for participant in _rotate(racing, repetition):
                self.workload.environment.forget(f"{participant.name}/{goal}")
                sample = self._sample(participant, cold or _WARM_UP, goal, repetition, expected, _NOTHING)
                if cold or sample.verdict is SampleVerdict.FAILED:
                    yield sample

    def _run_scenario(
        self, goal: Goal, racing: Sequence[Participant], scenario: Scenario, expected: Expectation
    ) -> Iterator[Sample]:
        for repetition in range(self.repeat):
            self._calibrate()
            change = self._change(scenario)
            expected.add(change)
            for participant in _rotate(racing, repetition):
                yield self._sample(participant, scenario, goal, repetition, expected, change)

    def _change(self, scenario: Scenario) -> ProjectChange:
        if scenario.change is None:
            return _NOTHING
        self._number += 1
        change = scenario.change(self.workload, self._number)
        return self.workload.prepare_peers(change)

    def _calibrate(self) -> None:
        self.calibrations.append(self.calibrate())

    def _sample(
        self,
        participant: Participant,
        scenario: Scenario,
        goal: Goal,
        repetition: int,
        expected: Expectation,
        change: ProjectChange,
    ) -> Sample:
        step = f"{scenario.title}, {goal}, {participant.name} {repetition + 1}"
        self.emit(StepStarted(step=step, phase="race"))
        built, traffic = self._build(participant, goal, clear=scenario.cold or scenario.cleared or goal is Goal.FRESH)
        verdict, note = self._judge(participant, goal, built, expected, change, scenario)
        cost = built.ran.cost
        if verdict is SampleVerdict.FAILED:
            self.emit(StepFailed(step=step, phase="race", message=note))
        else:
            self.emit(StepFinished(step=step, phase="race", seconds=cost.seconds, note=note and f"{verdict}: {note}"))
        return Sample(
            until=goal,
            scenario=scenario.name,
            participant=participant.name,
            repetition=repetition,
            seconds=cost.seconds,
            cpu=cost.cpu,
            memory=cost.memory,
            up=traffic.up,
            down=traffic.down,
            space=participant.space(goal) if scenario.cold and verdict is not SampleVerdict.FAILED else None,
            phases=dict(built.phases),
            verdict=verdict,
            note=note,
            output=built.ran.output[-_KEPT_OUTPUT:] if verdict is SampleVerdict.FAILED else "",
        )

    def _build(self, participant: Participant, goal: Goal, *, clear: bool) -> tuple[BuildOutcome, Traffic]:
        """Run one turn and count the registry's traffic. A participant that cannot even be cleared has failed."""
        environment, proxy = self.workload.environment, self.workload.environment.proxy
        try:
            if clear:
                participant.clear(goal)
        except BuildError as error:
            return BuildOutcome(
                ran=MeasuredRun(finished=None, output=error.output, cost=_NO_COST, error=error.message)
            ), Traffic()
        environment.settle()
        before = proxy.traffic
        built = participant.build(goal)
        time.sleep(0.05)  # the proxy's threads finish counting
        return built, proxy.traffic - before

    def _judge(
        self,
        participant: Participant,
        goal: Goal,
        built: BuildOutcome,
        expected: Expectation,
        change: ProjectChange,
        scenario: Scenario,
    ) -> tuple[SampleVerdict, str]:
        """Decide whether the image is right, and whether anything was built without need."""
        if built.ran.finished is None:
            last = built.ran.output.strip().splitlines()[-1:]
            return SampleVerdict.FAILED, ": ".join([built.ran.error, *last])
        try:
            wrong = expected.check(participant.inspect(goal, expected.paths))
        except BuildError as error:
            return SampleVerdict.FAILED, f"{error.message} {error.output}".strip()
        if wrong:
            return SampleVerdict.WRONG, wrong
        if built.kinds is None and not built.steps:
            return SampleVerdict.WRONG, "what it did cannot be read from its output"
        if scenario.cold or scenario.cleared:
            reused = check_cold(built)
            return (SampleVerdict.WRONG, reused) if reused else (SampleVerdict.RIGHT, "")
        if built.kinds is not None:
            excess = check_kinds(built.kinds, dict(change.kinds))
        else:
            excess = check_steps(built.steps, change.inputs)
        return (SampleVerdict.EXCESS, excess) if excess else (SampleVerdict.RIGHT, "")


_NO_COST = RunCost(seconds=0.0, cpu=0.0, memory=None)
_NOTHING = ProjectChange()
_WARM_UP = Scenario(name="warm-up", title="warm-up", cold=True)


def _rotate(participants: Sequence[Participant], repetition: int) -> list[Participant]:
    """Return all participants, a different one first in each repetition."""
    first = repetition % len(participants)
    return [*participants[first:], *participants[:first]]
