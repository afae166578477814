"""``nox -s optimise``: variants of one model side by side, measured in one run, and the choice as ``[[derive]]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buildkit.build.build_layers import act_in_stage
from buildkit.build.containers import ContainerRunner
from buildkit.build.derive import DeriveJob, measure, open_workshop, read_report
from buildkit.build.model_gate import ModelGate
from buildkit.build.optimiser import RefusedError, work_folder
from buildkit.build.planner import Planner
from buildkit.declare.schema import suggest_word
from buildkit.declare.toml import append_to_list
from buildkit.digest import FileHash, canonical_json
from buildkit.errors import BuildError, DefinitionError
from buildkit.locks.derivation import Derivation, DeriveGate, DeriveRequest, gate_table
from buildkit.locks.models_lock import parse_models_file
from buildkit.locks.pins import ModelFile
from buildkit.plan.derive_report import DeriveReport, find_failures
from buildkit.resolve.derive import DeriveSession, ModelsBook
from buildkit.resolve.request import LockDrafts
from buildkit.tasks.scheduler import Outcome

_MAIN = ("Conv", "Gemm", "MatMul")
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "basic": ("onnx-optimise", {"level": "basic"}),
    "extended": ("onnx-optimise", {"level": "extended"}),
    "dynamic-int8": ("onnx-quantise-dynamic", {"weight-type": "QInt8"}),
    "dynamic-uint8": ("onnx-quantise-dynamic", {"weight-type": "QUInt8"}),
    "static-int8": ("onnx-quantise-static", {"operators": list(_MAIN)}),
    "static-int8-per-channel": ("onnx-quantise-static", {"operators": list(_MAIN), "per-channel": True}),
    "static-int8-all": ("onnx-quantise-static", {}),
}
"""What is tried, by name: a tool and its options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVariant:
    """A variant that was tried: its report, or the ``error`` of its tool, and why its gate would refuse it."""

    name: str
    derivation: Derivation
    report: DeriveReport | None = None
    error: str = ""
    failures: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether a gate would let it pass."""
        return self.report is not None and not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return the fields that docs/models.md describes."""
        return {
            "variant": self.name,
            "tool": self.derivation.tool,
            "options": self.derivation.settings,
            "passes": self.is_good,
            "why": list(self.failures) or ([self.error] if self.error else []),
            "report": self.report.as_json() if self.report else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiseRequest:
    """The model to compare variants of, their gate, the stage, and the names of the variants."""

    model: str
    gate: DeriveGate
    stage: str
    variants: tuple[str, ...]

    def derivations(self) -> dict[str, Derivation]:
        """Return the variants as derivations, by name."""
        return {
            name: Derivation(
                of=self.model,
                tool=VARIANTS[name][0],
                options=canonical_json(VARIANTS[name][1]),
                stage=self.stage,
                gate=self.gate,
            )
            for name in self.variants
        }


def find_book(books: Sequence[ModelsBook], model: str) -> ModelsBook:
    """Return the models file that has a model; raises DefinitionError."""
    for book in books:
        if model in book.models:
            return book
    known = sorted(name for book in books for name in book.models)
    raise DefinitionError(
        f"there is no locked model `{model}`", hint=suggest_word(model, known) or f"locked are {', '.join(known)}"
    )


def compare_variants(
    planner: Planner, session: DeriveSession, book: ModelsBook, request: OptimiseRequest, jobs: int
) -> tuple[ModelVariant, ...]:
    """Make every variant and measure all in one run, in turn. Nothing is locked, and nothing of it is kept.

    Raises BuildError if the source itself cannot be measured.
    """
    made: list[ModelVariant] = []
    wanted = {name: session.inputs_of(book, DeriveRequest(name=name, derivation=each))
              for name, each in request.derivations().items()}  # fmt: skip

    def act(containers: ContainerRunner) -> Outcome:
        made.extend(_compare(planner, session, wanted, containers))
        return Outcome()

    first = next(iter(wanted.values()))
    act_in_stage(planner, request.stage, jobs, first.inputs, act, request.model)
    return tuple(made)


def _compare(
    planner: Planner, session: DeriveSession, jobs: Mapping[str, DeriveJob], containers: ContainerRunner
) -> list[ModelVariant]:
    first = next(iter(jobs.values()))
    bench, context = session.bench(first, containers), planner.context
    ModelGate(context).check(first.source)
    tried: dict[str, ModelVariant] = {}
    sizes: dict[str, int] = {}
    with open_workshop(context, first.derivation) as workshop:
        folders = {"source": workshop.add_model(context, first.source, "source")}
        if first.data is not None:
            folders["data"] = workshop.add_model(context, first.data, "data")
        with bench.open(workshop) as optimiser:
            for name, job in jobs.items():
                bench.say(replace(first, name=first.source.name), f"derive {name}")
                try:
                    answer = optimiser.derive(
                        job.derivation, name=name, source=folders["source"], data=folders.get("data", "")
                    )
                    sizes[name] = sum(int(file["size"]) for file in answer["files"])
                except RefusedError as error:
                    tried[name] = ModelVariant(name=name, derivation=job.derivation, error=error.message)
            bench.say(replace(first, name=first.source.name), "measure")
            found = measure(first, optimiser, folders, {name: work_folder(name) for name in sizes}) if sizes else {}
    for name, size in sizes.items():
        tried[name] = _read_variant(jobs[name], size, found, name)
    return [tried[name] for name in jobs]


def _read_variant(job: DeriveJob, size: int, found: Mapping[str, Any], name: str) -> ModelVariant:
    """Return a variant as it was measured; a metric that fails for the source itself is an error of the session."""
    if "error" in found["models"][""]:
        raise BuildError(f"{job.source.name}: {found['models']['']['error']}"[:2000])
    files = (ModelFile(path=name, sha256=FileHash.of(b""), size=size, source=""),)
    try:
        report = read_report(job, files, found, name)
    except RefusedError as error:
        return ModelVariant(name=name, derivation=job.derivation, error=error.message)
    failures = find_failures(report, job.derivation)
    return ModelVariant(name=name, derivation=job.derivation, report=report, failures=failures)


def write_variant(folder: Path, book: ModelsBook, variant: ModelVariant, name: str) -> None:
    """Add a variant to its models file as the derived model ``name``; comments and all else stay as they are written.

    Raises DefinitionError for a name that is taken, and for a file that cannot be edited.
    """
    derivation = variant.derivation
    table: dict[str, Any] = {"name": name, "from": derivation.of, "tool": derivation.tool}
    if derivation.settings:
        table["options"] = derivation.settings
    if derivation.stage != Derivation(of="", tool="").stage:
        table["stage"] = derivation.stage
    if derivation.gate and (gate := gate_table(derivation.gate)):
        table["gate"] = gate
    try:
        text = append_to_list(book.text, "derive", table)
    except ValueError as error:
        raise DefinitionError(f"{book.file}: {error}", hint="add the [[derive]] by hand") from None
    parse_models_file(text, book.file)
    drafts = LockDrafts(folder)
    drafts.decide(book.file, text)
    drafts.write()
