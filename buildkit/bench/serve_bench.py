"""Measure services one beside the other: the same files, the same numbers of clients, in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.bench.serve_container import ServedImage, UsageWatch, serving
from buildkit.bench.serve_load import Load, LoadResult, run_load


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSample:
    """What one service did under one load.

    ``memory`` is the peak of its working set in bytes, ``cpu`` the seconds of CPU that it used in all.
    """

    who: str
    what: str
    clients: int
    result: LoadResult
    memory: int | None
    cpu: float | None = None

    @property
    def cost(self) -> float | None:
        """Seconds of CPU for each answer; other work on the machine changes them little."""
        answers = len(self.result.answered)
        return None if self.cpu is None or not answers else self.cpu / answers


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSample:
    """Seconds from ``podman run`` until a service was ready, each time, and those of CPU that it used for that."""

    who: str
    seconds: tuple[float, ...]
    cpu: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.seconds)


@dataclass(slots=True, kw_only=True)
class ServeSamples:
    """Everything that was measured, in order."""

    loads: list[ServeSample] = field(default_factory=list)
    starts: list[StartSample] = field(default_factory=list)

    def find(self, who: str, what: str, clients: int) -> ServeSample | None:
        """Return the sample of a service under a load."""
        fits = (one for one in self.loads if (one.who, one.what, one.clients) == (who, what, clients))
        return next(fits, None)


def measure_services(
    images: Sequence[ServedImage],
    loads: Sequence[tuple[str, Load]],
    folder: Path,
    starts: int,
    say: Callable[[str], None],
) -> ServeSamples:
    """Measure each service alone, the services taking turns: starts, then each load in a fresh container.

    ``loads`` have names; ``folder`` is for temporary files. A load is sent once before with one request a client, up
    to ten, so that nothing is measured for the first time.
    """
    samples = ServeSamples()
    rounds = [[_measure_start(served) for served in images] for _ in range(starts)]
    for number, served in enumerate(images):
        seconds, cpu = zip(*(one[number] for one in rounds), strict=True)
        known = tuple(one for one in cpu if one is not None)
        samples.starts.append(StartSample(who=served.name, seconds=seconds, cpu=known))
        say(f"{served.name}: ready after {statistics.median(seconds):.2f} s")
    for what, load in loads:
        for served in images:
            sample = _measure_load(served, what, load, folder)
            samples.loads.append(sample)
            say(format_sample(sample))
    return samples


def format_sample(sample: ServeSample) -> str:
    """Return a line that says what was measured."""
    result = sample.result
    return (
        f"{sample.who}, {sample.what}, {sample.clients} clients: {result.quantile(0.5) * 1000:.0f} ms, "
        f"p95 {result.quantile(0.95) * 1000:.0f}, p99 {result.quantile(0.99) * 1000:.0f}; {result.rate:.1f}/s; "
        f"{result.refused} refused, {result.lost} lost of {result.requests}"
    )


def _measure_start(served: ServedImage) -> tuple[float, float | None]:
    with serving(served) as container:
        return container.started, container.cpu


def _measure_load(served: ServedImage, what: str, load: Load, folder: Path) -> ServeSample:
    with serving(served) as container:
        run_load(container.url, Load(clip=load.clip, clients=min(load.clients, 10), requests=1), folder)
        with UsageWatch(container) as watch:
            result = run_load(container.url, load, folder)
    return ServeSample(
        who=served.name, what=what, clients=load.clients, result=result, memory=watch.peak, cpu=watch.cpu
    )
