"""The race itself: who builds when, and what is written down.

Participants take turns, another one first in each repetition, so that whatever a machine does besides hits all of
them. Between two turns written data is flushed, so that nobody pays for another's. After each turn the image is
looked into.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from buildkit.bench.checkout import Change
from buildkit.bench.participant import (
    Built,
    Expectation,
    Participant,
    Until,
    check_kinds,
    check_steps,
)
from buildkit.bench.results import Sample, Skipped, Verdict
from buildkit.bench.scenarios import Scenario
from buildkit.bench.workload import Workload
from buildkit.errors import BuildError, Interrupted
from buildkit.events import Say, StepFailed, StepFinished, StepStarted

_KEPT_OUTPUT = 4000


@dataclass(slots=True, kw_only=True)
class Race:
    """A workload and its participants; `run` gives a sample at a time."""

    workload: Workload
    participants: Sequence[Participant]
    scenarios: Sequence[Scenario]
    untils: Sequence[Until]
    repeat: int
    say: Say
    calibrate: Callable[[], dict[str, float]]
    calibrations: list[dict[str, float]]
    skipped: list[Skipped]
    _number: int = 0  # of changes: each is another one

    def run(self) -> Iterator[Sample]:
        """Race until each goal in turn. Raises Interrupted; failures of participants are samples."""
        for until in self.untils:
            racing = [one for one in self.participants if until in one.untils]
            if racing:
                yield from self._run_until(until, racing)

    def _run_until(self, until: Until, racing: Sequence[Participant]) -> Iterator[Sample]:
        expected = Expectation()
        chosen = [
            scenario for scenario in self.scenarios if until in scenario.untils and not self._lacks(scenario, until)
        ]
        cold = next((scenario for scenario in chosen if scenario.cold), None)
        self.workload.prepare_peers()
        failed: set[str] = set()
        for sample in self._start(until, racing, cold, expected):
            failed |= {sample.participant} if sample.verdict is Verdict.FAILED else set()
            yield sample
        for name in sorted(failed):
            self.skipped.append(Skipped(until=until, scenario="", participant=name, why="its first build failed"))
        left = [one for one in racing if one.name not in failed]
        for scenario in chosen:
            if left and not scenario.cold:
                yield from self._run_scenario(until, left, scenario, expected)
        for one in left:
            one.clear(until)  # gigabytes of images that nobody asks for any more

    def _lacks(self, scenario: Scenario, until: Until) -> str:
        why = scenario.lacks(self.workload)
        if why:
            self.skipped.append(Skipped(until=until, scenario=scenario.name, participant="", why=why))
        return why

    def _start(
        self, until: Until, racing: Sequence[Participant], cold: Scenario | None, expected: Expectation
    ) -> Iterator[Sample]:
        """Cold builds; where they are not asked for, one of each, unmeasured, for the others to follow."""
        for repetition in range(self.repeat if cold else 1):
            self._calibrate()
            for one in _turn(racing, repetition):
                one.clear(until)
                sample = self._sample(one, cold or _WARM_UP, until, repetition, expected, _NOTHING)
                if cold or sample.verdict is Verdict.FAILED:
                    yield sample

    def _run_scenario(
        self, until: Until, racing: Sequence[Participant], scenario: Scenario, expected: Expectation
    ) -> Iterator[Sample]:
        for repetition in range(self.repeat):
            self._calibrate()
            change = self._change(scenario)
            expected.add(change)
            for one in _turn(racing, repetition):
                if until is Until.FRESH:
                    one.clear(until)
                yield self._sample(one, scenario, until, repetition, expected, change)

    def _change(self, scenario: Scenario) -> Change:
        if scenario.change is None:
            return _NOTHING
        self._number += 1
        change = scenario.change(self.workload, self._number)
        return self.workload.prepare_peers(change)

    def _calibrate(self) -> None:
        self.calibrations.append(self.calibrate())

    def _sample(
        self,
        one: Participant,
        scenario: Scenario,
        until: Until,
        repetition: int,
        expected: Expectation,
        change: Change,
    ) -> Sample:
        gate, step = self.workload.arena.gate, f"{scenario.title}, {until}, {one.name} {repetition + 1}"
        os.sync()
        self.say(StepStarted(step=step, phase="race"))
        before = gate.toll
        built = one.build(until)
        time.sleep(0.05)  # the gate's threads count what has passed
        toll = gate.toll - before
        verdict, note = self._judge(one, until, built, expected, change, cold=scenario.cold or scenario is _WARM_UP)
        cost = built.ran.cost
        if verdict is Verdict.FAILED:
            self.say(StepFailed(step=step, phase="race", message=note))
        else:
            self.say(StepFinished(step=step, phase="race", seconds=cost.seconds, note=note and f"{verdict}: {note}"))
        return Sample(
            until=until,
            scenario=scenario.name,
            participant=one.name,
            repetition=repetition,
            seconds=cost.seconds,
            cpu=cost.cpu,
            memory=cost.memory,
            up=toll.up,
            down=toll.down,
            space=one.space(until) if scenario.cold or scenario is _WARM_UP else None,
            phases=dict(built.phases),
            verdict=verdict,
            note=note,
            output=built.ran.output[-_KEPT_OUTPUT:] if verdict is Verdict.FAILED else "",
        )

    def _judge(
        self, one: Participant, until: Until, built: Built, expected: Expectation, change: Change, *, cold: bool
    ) -> tuple[Verdict, str]:
        """Whether the image is right, and whether no more was made anew than had to be."""
        if built.ran.finished is None:
            last = built.ran.output.strip().splitlines()[-1:]
            return Verdict.FAILED, ": ".join([built.ran.error, *last])
        try:
            wrong = expected.check(one.look(until, expected.paths))
        except Interrupted:
            raise
        except BuildError as error:
            return Verdict.FAILED, f"{error.message} {error.output}".strip()
        if wrong:
            return Verdict.WRONG, wrong
        if cold:
            return Verdict.RIGHT, ""
        if built.kinds is not None:
            excess = check_kinds(built.kinds, dict(change.kinds))
        else:
            excess = check_steps(built.steps, change.inputs) if until is not Until.FRESH else ""
        return (Verdict.EXCESS, excess) if excess else (Verdict.RIGHT, "")


_NOTHING = Change()
_WARM_UP = Scenario(name="warm-up", title="warm-up")


def _turn(participants: Sequence[Participant], repetition: int) -> list[Participant]:
    """Everybody once, another one first each time."""
    first = repetition % len(participants)
    return [*participants[first:], *participants[:first]]
