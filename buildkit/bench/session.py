"""The runs of ``bench-build``: a race between builders, or how planning scales."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from buildkit.bench.calibrate import calibrate
from buildkit.bench.environment import RaceEnvironment, open_environment
from buildkit.bench.heavy import STAGE, ensure_heavy
from buildkit.bench.host import describe_machine, find_tool_versions
from buildkit.bench.ours import NAME, find_version
from buildkit.bench.output import write_results
from buildkit.bench.participant import Goal
from buildkit.bench.peers import open_participants
from buildkit.bench.race import Race
from buildkit.bench.regression_gate import check_workload
from buildkit.bench.request import RaceRequest
from buildkit.bench.results import Results, Skipped
from buildkit.bench.scale import measure_scale
from buildkit.bench.scenarios import SCENARIOS
from buildkit.bench.workload import Workload, choose_stage, make_workload
from buildkit.build.context import cache_folder
from buildkit.declare.graph import load_graph
from buildkit.errors import DefinitionError
from buildkit.events import Emit

_REFERENCE = "runtime"  # this repository ships two stages


def run_race(folder: Path, request: RaceRequest, old: Results | None, where: Path, emit: Emit) -> Results:
    """Run the race that is requested; after every turn the results so far are written to the folder ``where``.

    Raises DefinitionError if ``old`` is of another workload, so that they could not be compared.
    """
    keep = cache_folder() / "bench"
    skipped: list[Skipped] = []
    with open_environment(fill_memory=request.fill_memory) as environment, _own_cache(environment):
        workload = _prepare(folder, request, environment, keep, emit)
        if old:
            check_workload(old, workload.describe())
        with open_participants(environment, workload.checkout, request.peer, skipped, emit) as racing:
            race = Race(
                workload=workload,
                participants=racing,
                scenarios=[s for s in SCENARIOS if request.scenario is None or s.name in request.scenario],
                goals=request.until or tuple(Goal),
                repeat=request.repeat,
                emit=emit,
                calibrate=lambda: calibrate(environment.folder, workload.empty_session()),
                calibrations=[],
                skipped=skipped,
            )
            results = Results(
                machine=describe_machine(environment.folder) | {"memory filled": request.fill_memory},
                versions=find_tool_versions(),
                participants={participant.name: participant.version for participant in racing},
                workload=workload.describe(),
                samples=(),
            )
            for sample in race.run():
                more = (*results.samples, sample)
                calibrations = tuple(race.calibrations)
                results = replace(results, samples=more, skipped=tuple(skipped), calibrations=calibrations)
                write_results(results, where)
    return results


def run_scale(request: RaceRequest, emit: Emit) -> Results:
    """Measure how long planning takes as projects grow."""
    with TemporaryDirectory(prefix="bkb-", dir=os.environ.get("TMPDIR") or "/var/tmp") as name:  # noqa: S108
        scale = tuple(measure_scale(Path(name), request.repeat, emit))
        return Results(
            machine=describe_machine(Path(name)),
            versions=find_tool_versions(),
            participants={NAME: find_version()},
            workload={"name": "scale"},
            samples=(),
            scale=scale,
        )


def _prepare(folder: Path, request: RaceRequest, environment: RaceEnvironment, keep: Path, emit: Emit) -> Workload:
    source, stage = folder, request.stage
    if request.workload == "heavy":
        source, stage = keep / "heavy", stage or STAGE
        ensure_heavy(source, emit)
    elif request.workload != "reference":
        source = Path(request.workload)
        if not (source / "stages").is_dir():
            raise DefinitionError(f"--workload: {source} holds no stages/", hint="say reference, heavy, or a folder")
    stages = load_graph(source).stages
    if request.workload == "reference" and not stage and _REFERENCE in stages:
        stage = _REFERENCE
    workload = make_workload(source, choose_stage(stages, stage), environment, keep, emit)
    # whatever the name of its folder
    return replace(workload, name="reference") if request.workload == "reference" else workload


@contextmanager
def _own_cache(environment: RaceEnvironment) -> Iterator[None]:
    """Plan with a cache in the folder of the race, so that the user's cache keeps no trace of it."""
    before = os.environ.get("BUILDKIT_CACHE")
    os.environ["BUILDKIT_CACHE"] = str(environment.folder / "planning")
    try:
        yield
    finally:
        if before is None:
            del os.environ["BUILDKIT_CACHE"]
        else:
            os.environ["BUILDKIT_CACHE"] = before
