"""Tasks that bring the files of models here: downloads, and files that are derived again where no cache has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from buildkit.build.containers import ContainerRunner
from buildkit.build.context import BuildContext
from buildkit.build.inputs import InputTasks
from buildkit.digest import Key
from buildkit.errors import MismatchError
from buildkit.locks.model_source import UrlSource
from buildkit.locks.pins import DerivedFrom, Model, ModelFile
from buildkit.plan.compose import Composition
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tasks.task_id import TaskId, TaskKind


class ModelTasks:
    """Adds to ``tasks`` what must be done before the files of a model can be read.

    ``compose`` returns a stage; ``require_composition`` the tasks that import it into local storage.
    """

    def __init__(
        self,
        inputs: InputTasks,
        containers: ContainerRunner,
        tasks: dict[TaskId, Task],
        compose: Callable[[str], Composition],
        require_composition: Callable[[Composition], tuple[TaskId, ...]],
    ) -> None:
        self._inputs = inputs
        self._containers = containers
        self._tasks = tasks
        self._compose = compose
        self._require_composition = require_composition

    def fetch(self, model: Model, files: Iterable[ModelFile], context: BuildContext) -> tuple[TaskId, ...]:
        """Return the tasks to wait for before ``files`` of a model can be opened; none of those that are here."""
        needs: list[TaskId | None] = []
        if model.wheel is not None:
            needs = [self._inputs.fetch(model.wheel)]
        elif isinstance(model.source, UrlSource):
            needs = [self._inputs.fetch_model_file(model, file) for file in files]
        elif model.origin is not None:
            needs = [self._derive(model, model.origin, context)]
        return tuple(filter(None, needs))

    def _derive(self, model: Model, origin: DerivedFrom, context: BuildContext) -> TaskId | None:
        """Return the task that makes a derived model again; None if the cache has all of its files."""
        name = TaskId(TaskKind.DERIVE, origin.key.hex)
        if has_files(model, context):
            return None
        if name not in self._tasks:
            assert model.derivation is not None  # noqa: S101 - a model with an origin has it
            stage = self._compose(model.derivation.stage)
            needs = (*self._require_composition(stage), *self.fetch(origin.source, origin.source.files, context))
            self._tasks[name] = Task(
                name=model.name,
                phase="derive",
                lane=Lane.CONTAINER,
                action=lambda: derive_again(model, origin, stage, self._containers, context),
                needs=needs,
            )
        return name


def has_files(model: Model, context: BuildContext) -> bool:
    """Return whether the cache has all files of a model, each under its own hash."""
    return all(context.blobs.has_file(file.sha256, Path(file.path).name) for file in model.files)


def derive_again(
    model: Model, origin: DerivedFrom, stage: Composition, containers: ContainerRunner, context: BuildContext
) -> Outcome:
    """Make the files of a locked model again, and hold them against the lock.

    Raises MismatchError for other bytes, ModelError for a source that the scan refuses, and BuildError.
    """
    from buildkit.build.derive import open_workshop, record_files
    from buildkit.build.model_gate import ModelGate
    from buildkit.build.optimiser import open_optimiser, work_folder

    assert model.derivation is not None  # noqa: S101 - a model with an origin has it
    began = time.monotonic()
    with context.blobs.building(Key(origin.key.hex), context.stop.is_set):
        if has_files(model, context):
            return Outcome(note="derived by another build")
        ModelGate(context).check(origin.source)
        python = f"{context.project.target.prefix}/bin/python"
        with open_workshop(context, model.derivation) as workshop:
            source = workshop.add_model(context, origin.source, "source")
            with open_optimiser(containers, stage, workshop, python=python) as optimiser:
                answer = optimiser.derive(model.derivation, name=model.name, source=source, data="")
                made = optimiser.take(work_folder(model.name), answer["files"], context)
                processor = optimiser.ask("about")["processor"]
        _check_same(model, made, str(processor))
        record_files(made, context, time.monotonic() - began)
    return Outcome(size=sum(file.size for file in made))


def _check_same(model: Model, made: Iterable[ModelFile], processor: str) -> None:
    assert model.derivation is not None  # noqa: S101 - the caller's check
    here = {file.path: file.sha256 for file in made}
    locked = {file.path: file.sha256 for file in model.files}
    differing = next((path for path in sorted({*here, *locked}) if here.get(path) != locked.get(path)), None)
    if differing is None:
        return
    of_lock = dict(model.derivation.report).get("processor", "unknown")
    tool, here_is, lock_is = model.derivation.tool, here.get(differing, "none"), locked.get(differing, "none")
    raise MismatchError(
        f"{model.name}: {tool} makes another {differing} here ({here_is}) than the lock names ({lock_is}); "
        f"the lock was made on a processor `{of_lock}`, and this one is `{processor}`",
        hint="build where a cache has the file (--cache REPOSITORY), or derive it for this processor: nox -s derive -- "
        f"{model.name} --again",
    )
