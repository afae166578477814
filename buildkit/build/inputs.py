"""What layers are packed from: downloads, and wheels that are compiled here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from buildkit.build.containers import ContainerRunner
from buildkit.build.context import BuildContext
from buildkit.build.fetch import Wanted
from buildkit.build.model_files import missing
from buildkit.digest import FileHash
from buildkit.layers.models import open_from_paths, open_from_wheel
from buildkit.locks.model_source import UrlSource
from buildkit.locks.pins import Artifact, Model, ModelFile
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Compile
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tasks.task_id import TaskId, TaskKind


class InputTasks:
    """Adds a task for each download and each wheel to be compiled, once, whoever wants it.

    ``builder`` is asked for only where something must be compiled; ``want_whole`` gives the ids of what puts it into
    storage.
    """

    def __init__(
        self,
        context: BuildContext,
        containers: ContainerRunner,
        tasks: dict[TaskId, Task],
        builder: Callable[[], Composition],
        want_whole: Callable[[Composition], tuple[TaskId, ...]],
    ) -> None:
        self._context = context
        self._containers = containers
        self._tasks = tasks
        self._builder = builder
        self._require_composition = want_whole

    def fetch(self, artifact: Artifact) -> TaskId | None:
        """What fetches a wheel or an sdist: the id to wait for, None where it is there."""
        assert artifact.sha256 is not None  # noqa: S101 - locks are checked
        path = self._context.blobs.file_path(artifact.sha256, artifact.file)
        return self._fetching(
            f"{artifact.name} {artifact.version}".strip(),
            path,
            artifact.sha256,
            artifact.size,
            lambda progress: self._context.files.fetcher.fetch(artifact, path, progress=progress),
        )

    def fetch_model_file(self, model: Model, file: ModelFile) -> TaskId | None:
        """What fetches a file of a model, likewise."""
        path = self._context.blobs.file_path(file.sha256, Path(file.path).name)
        wanted = Wanted(what=f"{model.name}: {file.path}", sha256=file.sha256, size=file.size)
        return self._fetching(
            wanted.what,
            path,
            file.sha256,
            file.size,
            lambda progress: self._context.files.fetcher.fetch_url(file.source, wanted, path, progress=progress),
        )

    def _fetching(
        self, step: str, path: Path, sha256: FileHash, size: int, fetch: Callable[[Callable[[int], None]], None]
    ) -> TaskId | None:
        name = TaskId(TaskKind.FETCH, str(path))
        if path.exists():
            return None
        if name not in self._tasks:

            def action() -> Outcome:
                size = self._context.files.download(sha256, path, lambda: fetch(self._context.progress(step)))
                return Outcome(note="fetched by another build") if size is None else Outcome(size=size)

            self._tasks[name] = Task(name=step, phase="fetch", lane=Lane.NET, action=action, total=size or None)
        return name

    def compile(self, item: Compile) -> TaskId | None:
        """What compiles a wheel, likewise."""
        context = self._context
        if context.files.find_wheel(item.key) is not None:
            return None
        name = TaskId.of_key(TaskKind.COMPILE_WHEEL, item.key)
        if name not in self._tasks:
            builder = self._builder()
            needs = list(self._require_composition(builder))
            if item.artifact.sha256 is not None:
                needs += filter(None, [self.fetch(item.artifact)])
            self._tasks[name] = Task(
                name=f"{item.artifact.name} {item.artifact.version}".strip(),
                phase="compile",
                lane=Lane.CONTAINER,
                action=lambda: self._containers.compile_wheel(item, builder),
                needs=tuple(needs),
            )
        return name

    def wheel_path(self, artifact: Artifact, compiled: Compile | None) -> Path:
        """A wheel that was fetched or compiled; raises LostError for one that was damaged or removed since."""
        what = f"{artifact.name} {artifact.version}".strip()
        if compiled is None:
            assert artifact.sha256 is not None  # noqa: S101 - locks are checked
            return self._context.files.get_file(what, artifact.sha256, artifact.file)
        return self._context.files.get_wheel(what, compiled.key)

    def check_downloads(self, model: Model, files: Iterable[ModelFile]) -> None:
        """Raise LostError for files of a model that were damaged since they were fetched, and removed, or are gone."""
        if isinstance(model.source, UrlSource):
            for file in files:
                self._context.files.get_file(f"{model.name}: {file.path}", file.sha256, Path(file.path).name)

    def open_model(self, model: Model) -> Callable[[ModelFile], Iterator[bytes]]:
        """What opens the files of a model; raises MismatchError where one of the repository's own is missing.

        What is opened raises LostError for a download that was removed since.
        """
        context = self._context
        if model.wheel is not None:
            return open_from_wheel(self.wheel_path(model.wheel, None))
        if isinstance(model.source, UrlSource):
            return lambda file: context.files.read_file(f"{model.name}: {file.path}", file.sha256, Path(file.path).name)
        for file in model.files:
            if not (context.project.folder / file.source).is_file():
                raise missing(model, file)
        return open_from_paths(lambda file: context.project.folder / file.source)
