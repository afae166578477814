"""``nox -s bench-build``: an honest race, its results, and a gate."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from buildkit.bench.calibrate import calibrate
from buildkit.bench.environment import RaceEnvironment, open_environment
from buildkit.bench.heavy import STAGE, ensure_heavy
from buildkit.bench.host import describe_machine, find_tool_versions
from buildkit.bench.ours import NAME, find_version
from buildkit.bench.output import compare, judge, print_results, read_results, write_output, write_results
from buildkit.bench.participant import Goal
from buildkit.bench.peers import open_participants
from buildkit.bench.race import Race
from buildkit.bench.regression_gate import check_workload
from buildkit.bench.request import parse_request
from buildkit.bench.results import Results, Skipped, render_results
from buildkit.bench.scale import measure_scale
from buildkit.bench.scenarios import SCENARIOS
from buildkit.bench.workload import Workload, choose_stage, make_workload
from buildkit.build.context import cache_folder
from buildkit.declare.graph import load_graph
from buildkit.errors import DefinitionError
from buildkit.events import Emit
from buildkit.report.view import open_view

_REFERENCE = "runtime"  # of this repository two stages ship


def bench(folder: Path, arguments: Sequence[str]) -> int:
    """Race, write the results, print them; 1 where ``--compare`` finds us slower.

    Raises DefinitionError, BuildError.
    """
    options = parse_request(arguments)
    old = read_results(options.compare) if options.compare else None
    where = options.output or folder / "reports/bench"
    with open_view(sys.stderr) as emit:
        results = run_scale(options, emit) if options.scale else run_race(folder, options, old, where, emit)
    write_output(results, where)
    sys.stderr.write(f"results: {where}\n")
    if options.json:
        sys.stdout.write(render_results(results))
    else:
        print_results(results)
    return max(judge(results), compare(old, results, options.fail_over) if old else 0)


def run_race(folder: Path, options: argparse.Namespace, old: Results | None, where: Path, emit: Emit) -> Results:
    """The race that the options ask for; after every turn its results so far are in ``where``.

    Raises DefinitionError where it could not be compared with ``old``, for that is of another workload.
    """
    keep = cache_folder() / "bench"
    skipped: list[Skipped] = []
    with open_environment() as environment, _own_cache(environment):
        workload = _prepare(folder, options, environment, keep, emit)
        if old:
            check_workload(old, workload.describe())
        with open_participants(environment, workload.checkout, options.peer, skipped, emit) as racing:
            race = Race(
                workload=workload,
                participants=racing,
                scenarios=[one for one in SCENARIOS if options.scenario is None or one.name in options.scenario],
                goals=options.until or tuple(Goal),
                repeat=options.repeat,
                emit=emit,
                calibrate=lambda: calibrate(environment.folder, workload.empty_session()),
                calibrations=[],
                skipped=skipped,
            )
            results = Results(
                machine=describe_machine(environment.folder),
                versions=find_tool_versions(),
                participants={one.name: one.version for one in racing},
                workload=workload.describe(),
                samples=(),
            )
            for sample in race.run():
                more = (*results.samples, sample)
                calibrations = tuple(race.calibrations)
                results = replace(results, samples=more, skipped=tuple(skipped), calibrations=calibrations)
                write_results(results, where)
    return results


def run_scale(options: argparse.Namespace, emit: Emit) -> Results:
    """How long planning takes as projects grow."""
    with TemporaryDirectory(prefix="bkb-", dir=os.environ.get("TMPDIR") or "/var/tmp") as name:  # noqa: S108
        scale = tuple(measure_scale(Path(name), options.repeat, emit))
        return Results(
            machine=describe_machine(Path(name)),
            versions=find_tool_versions(),
            participants={NAME: find_version()},
            workload={"name": "scale"},
            samples=(),
            scale=scale,
        )


def _prepare(
    folder: Path, options: argparse.Namespace, environment: RaceEnvironment, keep: Path, emit: Emit
) -> Workload:
    source, stage = folder, options.stage
    if options.workload == "heavy":
        source, stage = keep / "heavy", stage or STAGE
        ensure_heavy(source, emit)
    elif options.workload != "reference":
        source = Path(options.workload)
        if not (source / "stages").is_dir():
            raise DefinitionError(f"--workload: {source} holds no stages/", hint="say reference, heavy, or a folder")
    stages = load_graph(source).stages
    if options.workload == "reference" and not stage and _REFERENCE in stages:
        stage = _REFERENCE
    made = make_workload(source, choose_stage(stages, stage), environment, keep, emit)
    return replace(made, name="reference") if options.workload == "reference" else made  # whatever its folder's name


@contextmanager
def _own_cache(environment: RaceEnvironment) -> Iterator[None]:
    """What we plan with is in the arena: the user's cache learns nothing of a race."""
    before = os.environ.get("BUILDKIT_CACHE")
    os.environ["BUILDKIT_CACHE"] = str(environment.folder / "planning")
    try:
        yield
    finally:
        if before is None:
            del os.environ["BUILDKIT_CACHE"]
        else:
            os.environ["BUILDKIT_CACHE"] = before
