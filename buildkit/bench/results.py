"""Samples of a race and figures computed from them, as values and as JSON (``results.json``)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from buildkit.errors import DefinitionError

FORMAT = 1
HINT = "name the results.json of a race, as --output FOLDER left it"


class SampleVerdict(StrEnum):
    """The verdict on one turn."""

    RIGHT = "right"
    EXCESS = "excess"  # the image is right, but something was built without need
    WRONG = "wrong"  # the image is not what was asked for, however fast
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One turn of one participant: seconds, and bytes of memory, registry traffic and disk."""

    until: str
    scenario: str
    participant: str
    repetition: int
    seconds: float
    cpu: float
    memory: int | None = None
    up: int = 0
    down: int = 0
    space: int | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    verdict: SampleVerdict = SampleVerdict.RIGHT
    note: str = ""
    output: str = ""

    @property
    def counts(self) -> bool:
        """Whether its seconds are meaningful."""
        return self.verdict in (SampleVerdict.RIGHT, SampleVerdict.EXCESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A race that did not take place, and why. An empty scenario or participant means any."""

    until: str
    scenario: str
    participant: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One participant in one row: median, minimum and maximum seconds, and medians of the rest.

    ``spread`` is the median absolute deviation of the seconds divided by their median.
    """

    count: int
    median: float
    least: float
    most: float
    spread: float
    cpu: float
    memory: int | None
    up: int
    down: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A whole race. ``calibrations`` are seconds of fixed work, measured between turns."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str]  # of tools that all participants use
    participants: Mapping[str, str]  # name to version, this project first
    workload: Mapping[str, Any]
    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...] = ()
    calibrations: tuple[Mapping[str, float], ...] = ()
    scale: tuple[Mapping[str, float], ...] = ()

    def of(self, until: str, scenario: str, participant: str) -> list[Sample]:
        """Return the samples of one cell."""
        return [s for s in self.samples if (s.until, s.scenario, s.participant) == (until, scenario, participant)]

    def rows(self) -> list[tuple[str, str]]:
        """Return the raced goals and scenarios in order."""
        return list(dict.fromkeys((sample.until, sample.scenario) for sample in self.samples))

    def as_json(self) -> dict[str, Any]:
        """Return the JSON value that docs/benchmarks.md describes."""
        return {"format": FORMAT, **asdict(self)}


def render_results(results: Results) -> str:
    """Return the text of results.json."""
    return json.dumps(results.as_json(), indent=1) + "\n"


def parse_results(text: str, file: str) -> Results:
    """Parse results.json. Raises DefinitionError."""
    try:
        value = json.loads(text)
        if value.pop("format") != FORMAT:
            raise DefinitionError(f"{file}: results of another format", hint="race that commit again")
        value["samples"] = tuple(
            Sample(**{**item, "verdict": SampleVerdict(item["verdict"])}) for item in value["samples"]
        )
        value["skipped"] = tuple(Skipped(**item) for item in value["skipped"])
        value["calibrations"], value["scale"] = tuple(value["calibrations"]), tuple(value["scale"])
        results = Results(**value)
        _check(results)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DefinitionError(f"{file}: no results of a race: {error}", hint=HINT) from error
    return results


def _check(results: Results) -> None:
    """Check what a comparison relies on. Raises ValueError or TypeError."""
    facts = (results.machine, results.versions, results.participants, results.workload, *results.calibrations)
    if not results.participants or not all(isinstance(item, dict) for item in facts):
        raise ValueError("facts are lacking")
    seconds = [sample.seconds for sample in results.samples if sample.counts]
    amounts = (*seconds, *(amount for calibration in results.calibrations for amount in calibration.values()))
    if not all(amount > 0 for amount in amounts):
        raise ValueError("seconds are lacking")
    for until, scenario in results.rows():
        for name in results.participants:
            figure(results.of(until, scenario, name))


def figure(samples: Iterable[Sample]) -> Figures | None:
    """Return the figures of the samples that count, or None if there are none."""
    counting = [sample for sample in samples if sample.counts]
    if not counting:
        return None
    seconds = [sample.seconds for sample in counting]
    middle = statistics.median(seconds)
    memories = [sample.memory for sample in counting if sample.memory is not None]
    return Figures(
        count=len(counting),
        median=middle,
        least=min(seconds),
        most=max(seconds),
        spread=spread(seconds),
        cpu=statistics.median(sample.cpu for sample in counting),
        memory=round(statistics.median(memories)) if memories else None,
        up=round(statistics.median(sample.up for sample in counting)),
        down=round(statistics.median(sample.down for sample in counting)),
    )


def spread(values: Sequence[float]) -> float:
    """Return the median absolute deviation divided by the median; 0 for a single value."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values) / middle if middle else 0.0


def median_calibrations(results: Results) -> dict[str, float]:
    """Return the median seconds of each kind of fixed work."""
    names = dict.fromkeys(name for calibration in results.calibrations for name in calibration)
    return {
        name: statistics.median(calibration[name] for calibration in results.calibrations if name in calibration)
        for name in names
    }
