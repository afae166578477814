"""``nox -s derive``: makes the derived models that a models file asks for, and locks those that pass their gates.

The lock is written after each model, so what was made before a failure or an interrupt stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from buildkit.build.build_layers import act_in_stage
from buildkit.build.containers import ContainerRunner
from buildkit.build.derive import DeriveBench, DerivedResult, DeriveJob, derive_model
from buildkit.build.derived_models import DerivedModels
from buildkit.build.model_tasks import has_files
from buildkit.build.options import ModelChanges
from buildkit.build.planner import Planner
from buildkit.build.present_models import PresentModels
from buildkit.declare.schema import suggest_word
from buildkit.digest import FileHash, Key
from buildkit.errors import DefinitionError
from buildkit.locks.derivation import DeriveRequest, sort_requests
from buildkit.locks.freshness import models_inputs
from buildkit.locks.models_lock import (
    ModelsFile,
    ModelsLock,
    models_lock_path,
    models_source_path,
    parse_models_file,
    parse_models_lock,
    render_models_lock,
    request_hash,
)
from buildkit.locks.pins import Model
from buildkit.plan.derive_report import DeriveReport
from buildkit.resolve.request import LockDrafts
from buildkit.tasks.scheduler import Outcome

_LOCK = "run: nox -s lock"
_Act = Callable[[ContainerRunner], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveOutcome:
    """What became of a derived model: ``state`` is ``current``, ``stale`` (checked only), ``restored`` or ``derived``.

    ``report`` is what was measured on this host, if it was.
    """

    name: str
    model: Model | None
    state: str
    report: DeriveReport | None = None


@dataclass(slots=True, kw_only=True)
class ModelsBook:
    """A models file and its lock, as they are read and written while models are derived.

    ``models`` are all that are known by name, with their origins; ``keys`` those of derived ones.
    """

    file: str
    text: str
    asked: ModelsFile
    models: dict[str, Model]
    keys: dict[str, FileHash] = field(default_factory=dict)

    def render(self) -> str:
        """Return the text of the lock."""
        requests = sort_requests(self.asked.derived)
        derived = [self.models[one.name] for one in requests if one.name in self.keys]
        models = [self.models[one.name] for one in self.asked.models]
        hashes = (*map(request_hash, self.asked.models), *(self.keys[model.name] for model in derived))
        lock = ModelsLock(inputs=models_inputs(self.text), models=(*models, *derived), requests=hashes)
        return render_models_lock(lock)


def open_book(planner: Planner, file: str) -> ModelsBook:
    """Read a models file and its lock, which may lack derived models; raises DefinitionError for another stale lock."""
    drafts, path = LockDrafts(planner.context.project.folder), models_lock_path(file)
    text = drafts.get(file)
    asked, lock = parse_models_file(text, file), parse_models_lock(drafts.read(path) or "", path)
    pairs = {model.name: (model, key) for model, key in zip(lock.models, lock.requests, strict=True)}
    context = planner.context
    reader = PresentModels(context.project.folder, context.stat_index, ModelChanges.REFUSE, context.emit)
    models: dict[str, Model] = {}
    for request in asked.models:
        model, key = pairs.get(request.name, (None, None))
        if model is None or key != request_hash(request):
            raise DefinitionError(f"{path}: model {request.name} is not locked as {file} asks for it", hint=_LOCK)
        models[request.name] = request.place(reader.read(model, path, request.files))
    book = ModelsBook(file=file, text=text, asked=asked, models=models)
    for derived in asked.derived:
        model, key = pairs.get(derived.name, (None, None))
        if model and key and model.derivation and model.derivation.asked == derived.derivation.asked:
            book.models[derived.name] = replace(model, target=derived.target)
            book.keys[derived.name] = key
    return book


def find_books(planner: Planner) -> list[ModelsBook]:
    """Return the models files of all stages; raises DefinitionError if no stage has models."""
    stages = planner.graph.stages.values()
    files = dict.fromkeys(models_source_path(stage.models.lock) for stage in stages if stage.models)
    if not files:
        raise DefinitionError("no stage has models", hint="name a lock in a stage file: [models]")
    return [open_book(planner, file) for file in files]


class DeriveSession:
    """Derives models of one checkout; ``jobs`` layers of the stage are packed at once if it must be built."""

    def __init__(self, planner: Planner, *, jobs: int, seconds: float, again: bool = False) -> None:
        self._planner = planner
        self._jobs = jobs
        self._seconds = seconds
        self._again = again

    def derive(
        self, books: Iterable[ModelsBook], names: Sequence[str], *, check: bool = False
    ) -> Iterator[DeriveOutcome]:
        """Derive the named models, all without names, after those that they are made of; yield what became of each.

        With ``check`` nothing is made. Raises DefinitionError for a name that no models file has; BuildError, with the
        figures, for a model that does not pass its gate.
        """
        listed = list(books)
        known = sorted(request.name for book in listed for request in book.asked.derived)
        for name in names:
            if name not in known:
                hint = suggest_word(name, known) or "add a [[derive]], or compare some: nox -s optimise -- MODEL"
                raise DefinitionError(f"there is no derived model `{name}`", hint=hint)
        for book in listed:
            for request in _choose(book, names):
                yield self._derive(book, request, check=check, named=request.name in names)
            if not check:
                self._write(book)

    def inputs_of(self, book: ModelsBook, request: DeriveRequest) -> DeriveJob:
        """Return the job of a request, whose source is known."""
        reader, derivation = self._reader(book), request.derivation
        data = reader.data(request.name, derivation.data) if derivation.data else None
        own = derivation.calibration
        calibration = reader.data(request.name, own) if own and own != derivation.data else None
        return DeriveJob(
            name=request.name,
            derivation=derivation,
            source=book.models[derivation.of],
            data=data,
            calibration=calibration,
            seconds=self._seconds,
        )

    def _reader(self, book: ModelsBook) -> DerivedModels:
        return self._planner.checkout.derived_models(book.models.values())

    def _derive(self, book: ModelsBook, request: DeriveRequest, *, check: bool, named: bool) -> DeriveOutcome:
        source = book.models.get(request.derivation.of)
        if source is None:  # checked only: its own source is stale
            return DeriveOutcome(name=request.name, model=None, state="stale")
        origin = self._reader(book).find(request.name, request.derivation, source)
        if book.keys.get(request.name) == origin.key and not (self._again and named):
            model = replace(book.models[request.name], origin=origin)
            book.models[request.name] = model
            if check or not named or has_files(model, self._planner.context):
                return DeriveOutcome(name=request.name, model=model, state="current")
            self._act(request.derivation.stage, (model,), lambda _containers: Outcome(), request.name)
            return DeriveOutcome(name=request.name, model=model, state="restored")
        if check:
            book.models.pop(request.name, None)
            return DeriveOutcome(name=request.name, model=None, state="stale")
        job = self.inputs_of(book, request)
        made: list[DerivedResult] = []
        act = partial(self._make, job, made)
        self._act(request.derivation.stage, job.inputs, act, request.name)
        model = replace(made[0].model(job, request.target), origin=origin)
        book.models[request.name], book.keys[request.name] = model, origin.key
        self._planner.context.ledger.derivations.add(Key(origin.key.hex), made[0].report.as_json())
        self._write(book)
        return DeriveOutcome(name=request.name, model=model, state="derived", report=made[0].report)

    def _make(self, job: DeriveJob, made: list[DerivedResult], containers: ContainerRunner) -> Outcome:
        bench = self.bench(job, containers)
        made.append(derive_model(job, bench))
        return Outcome(size=sum(file.size for file in made[-1].files))

    def bench(self, job: DeriveJob, containers: ContainerRunner) -> DeriveBench:
        """Return what a job is done with."""
        stage = self._planner.composer.compose(job.derivation.stage)
        return DeriveBench(stage=stage, containers=containers, context=self._planner.context)

    def _act(self, stage: str, models: Sequence[Model], act: _Act, name: str) -> None:
        act_in_stage(self._planner, stage, self._jobs, models, act, name)

    def _write(self, book: ModelsBook) -> None:
        drafts = LockDrafts(self._planner.context.project.folder)
        drafts.decide(models_lock_path(book.file), book.render())
        drafts.write()


def _choose(book: ModelsBook, names: Sequence[str]) -> list[DeriveRequest]:
    """Return the requests that are named and those that they are made of, in this order; all without names."""
    requests = sort_requests(book.asked.derived)
    if not names:
        return list(requests)
    wanted = set(names)
    for request in reversed(requests):
        if request.name in wanted:
            wanted.add(request.derivation.of)
    return [request for request in requests if request.name in wanted]
