"""Derives models in the optimiser's container: makes their files, twice, and measures them beside their source."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buildkit.build.containers import ContainerRunner
from buildkit.build.context import BuildContext
from buildkit.build.model_gate import ModelGate
from buildkit.build.optimiser import Optimiser, RefusedError, Workshop, open_optimiser, work_folder
from buildkit.errors import BuildError
from buildkit.events import StepPhase
from buildkit.locks.derivation import Derivation, Ranges
from buildkit.locks.model_source import DerivedSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.compose import Composition
from buildkit.plan.derive_report import DeriveReport, MeasuredModel, find_failures, locked_report

_SOURCE, _DATA, _CALIBRATION = "source", "data", "calibration"
_AGAIN = 1  # another seed of hashes: what depends on one could not be made again


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveJob:
    """A model to derive: how, of what, and the files for its metric and for calibration (None if it needs none).

    ``seconds`` is how long the time of calls is measured.
    """

    name: str
    derivation: Derivation
    source: Model
    data: Model | None = None
    calibration: Model | None = None
    seconds: float = 3.0

    @property
    def inputs(self) -> tuple[Model, ...]:
        """The models whose files must be here."""
        return tuple(filter(None, (self.source, self.data, self.calibration)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedResult:
    """What was made: files, which are in the cache, the ranges that were used, and what was measured."""

    files: tuple[ModelFile, ...]
    ranges: Ranges
    report: DeriveReport

    def model(self, job: DeriveJob, target: str) -> Model:
        """Return the model as a lock has it."""
        derivation = replace(job.derivation, ranges=self.ranges, report=locked_report(self.report))
        return Model(
            name=job.name,
            version=job.source.version,
            source=DerivedSource(of=job.source.name),
            license=job.source.license,
            files=self.files,
            target=target,
            derivation=derivation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveBench:
    """What a job is done with: the stage, its containers, and the context of the run."""

    stage: Composition
    containers: ContainerRunner
    context: BuildContext

    @contextmanager
    def open(self, workshop: Workshop, seed: int = 0) -> Iterator[Optimiser]:
        """Start the programs."""
        python = f"{self.context.project.target.prefix}/bin/python"
        with open_optimiser(self.containers, self.stage, workshop, python=python, seed=seed) as optimiser:
            yield optimiser

    def say(self, job: DeriveJob, phase: str) -> None:
        """Report what a job does from now on."""
        self.context.emit(StepPhase(step=job.name, phase=phase))


@contextmanager
def open_workshop(context: BuildContext, derivation: Derivation) -> Iterator[Workshop]:
    """Make the folder that a container sees, with programs and scripts; it is removed at the end."""
    with context.blobs.working_folder() as folder:
        workshop = Workshop(folder=folder)
        workshop.add_programs()
        workshop.add_scripts(context.project.folder, derivation)
        yield workshop


def derive_model(job: DeriveJob, bench: DeriveBench) -> DerivedResult:
    """Derive a model and measure it, and raise BuildError, with the figures, if it does not pass its gate.

    It is made a second time, under another seed of hashes, and must come out the same: a build could not make it
    again otherwise. Raises RefusedError, ModelError and Interrupted. Files that are refused stay in the cache without
    being named by anything, until gc removes them.
    """
    context, began = bench.context, time.monotonic()
    ModelGate(context).check(job.source)
    with open_workshop(context, job.derivation) as workshop:
        folders = {name: workshop.add_model(context, model, name) for name, model in _named(job).items()}
        with bench.open(workshop) as optimiser, _naming(job):
            answer = _make(job, optimiser, folders)
            files = optimiser.take(work_folder(job.name), answer["files"], context)
            bench.say(job, "measure")
            found = measure(job, optimiser, folders, {job.name: work_folder(job.name)})
            ranges = tuple((name, (float(low), float(high))) for name, (low, high) in answer["ranges"].items())
        report = read_report(job, files, found, job.name)
        if failures := find_failures(report, job.derivation):
            raise BuildError(f"{job.name} is refused: {'; '.join(failures)}", hint=_advise(job))
        bench.say(job, "derive again, to compare")
        with bench.open(workshop, _AGAIN) as optimiser, _naming(job):
            _check_same(job, answer, _make(replace_ranges(job, ranges), optimiser, folders))
    _scan(job, files, context)
    record_files(files, context, time.monotonic() - began)
    return DerivedResult(files=files, ranges=ranges, report=report)


def record_files(files: Iterable[ModelFile], context: BuildContext, seconds: float) -> None:
    """Record derived files as downloads are, so that gc knows what it costs to have them again."""
    for file in files:
        context.ledger.downloads.add(file.sha256, Path(file.path).name, file.size, seconds)


def _named(job: DeriveJob) -> dict[str, Model]:
    named = {_SOURCE: job.source, _DATA: job.data, _CALIBRATION: job.calibration}
    return {name: model for name, model in named.items() if model is not None}


def replace_ranges(job: DeriveJob, ranges: Ranges) -> DeriveJob:
    """Return a job that goes by known ranges."""
    return replace(job, derivation=replace(job.derivation, ranges=ranges))


def _make(job: DeriveJob, optimiser: Optimiser, folders: Mapping[str, str]) -> dict[str, Any]:
    data = folders.get(_CALIBRATION) or folders.get(_DATA, "")
    return optimiser.derive(job.derivation, name=job.name, source=folders[_SOURCE], data=data)


def measure(
    job: DeriveJob, optimiser: Optimiser, folders: Mapping[str, str], models: Mapping[str, str]
) -> dict[str, Any]:
    """Measure models, folders in the container by name, beside the source; return what was found, with ``about``."""
    gate = job.derivation.gate
    found = optimiser.ask(
        "measure",
        models={"": folders[_SOURCE], **models},
        metric=gate.metric if gate else "",
        data=folders.get(_DATA, ""),
        file=job.derivation.settings.get("file", ""),
        seconds=job.seconds,
    )
    measured = found.get("models")
    if not isinstance(measured, dict) or not all(isinstance(measured.get(name), dict) for name in ("", *models)):
        raise BuildError("the optimiser does not say what it measured", hint="does a script write into its pipes?")
    return {"models": measured, **optimiser.ask("about")}


def read_report(job: DeriveJob, files: tuple[ModelFile, ...], found: Mapping[str, Any], name: str) -> DeriveReport:
    """Return what `measure` found of one model. Raises RefusedError for a metric that failed, of the source, too."""
    source, derived = dict(found["models"][""]), dict(found["models"][name])
    for one, whose in ((source, job.source.name), (derived, name)):
        if "error" in one:
            raise RefusedError(f"{whose}: {one['error']}"[:2000])
    try:
        return DeriveReport(
            name=name,
            of=job.source.name,
            tool=job.derivation.tool,
            source=MeasuredModel.from_json({**source, "size": sum(file.size for file in job.source.files)}),
            derived=MeasuredModel.from_json({**derived, "size": sum(file.size for file in files)}),
            better=job.derivation.gate.better if job.derivation.gate else "higher",
            processor=str(found["processor"]),
            threads=int(found["threads"]),
            versions=tuple(sorted((str(lib), str(version)) for lib, version in found["versions"].items())),
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BuildError(f"{name}: the optimiser's figures cannot be read: {error}") from error


@contextmanager
def _naming(job: DeriveJob) -> Iterator[None]:
    """Name the model in whatever a tool, a script or a metric refuses."""
    try:
        yield
    except RefusedError as error:
        raise RefusedError(f"{job.name}: {job.derivation.tool}: {error.message}", hint=error.hint) from None


def _check_same(job: DeriveJob, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    if first["files"] != second["files"]:
        raise BuildError(
            f"{job.name}: {job.derivation.tool} makes other bytes every time, so no build could make the model again",
            hint="fix seeds, times and the order of sets in the script",
        )


def _advise(job: DeriveJob) -> str:
    return f"compare others: nox -s optimise -- {job.source.name}"


def _scan(job: DeriveJob, files: tuple[ModelFile, ...], context: BuildContext) -> None:
    """Raise ModelError if the scan refuses what was made."""
    source = DerivedSource(of=job.source.name)
    ModelGate(context).check(Model(name=job.name, version="", source=source, license="", files=files))
