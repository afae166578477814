"""Results of races that were never run."""

from __future__ import annotations

from collections.abc import Iterable

from buildkit.bench.results import Results, Sample, SampleVerdict

OURS = "xoe-buildkit"


def samples(
    seconds: Iterable[float],
    who: str = OURS,
    *,
    scenario: str = "light-pin",
    until: str = "runnable",
    verdict: SampleVerdict = SampleVerdict.RIGHT,
    note: str = "",
    output: str = "",
    **more: object,
) -> list[Sample]:
    """One sample for each number of seconds."""
    return [
        Sample(
            until=until,
            scenario=scenario,
            participant=who,
            repetition=number,
            seconds=value,
            cpu=value / 2,
            verdict=verdict,
            note=note,
            output=output,
            **more,
        )
        for number, value in enumerate(seconds)
    ]


def race(
    *groups: list[Sample],
    fixed: float = 0.1,
    participants: dict[str, str] | None = None,
) -> Results:
    """A race of these samples, on a machine that does the fixed work in so many seconds."""
    return Results(
        machine={"processor": "a <fast> one", "cores": 2, "memory": 24_000_000_000},
        versions={"skopeo": "1.9.3"},
        participants=participants or {OURS: "0.1.0", "buildah": "1.28.2"},
        workload={"name": "heavy", "wheels": 67},
        samples=tuple(sample for group in groups for sample in group),
        calibrations=({"hash": fixed, "zstd": fixed, "write": fixed, "session": 0.2},),
    )
