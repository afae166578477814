"""Tasks for the inputs of layers: downloads, and wheels that are compiled here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from buildkit.build.containers import ContainerRunner
from buildkit.build.context import BuildContext
from buildkit.build.fetch import ExpectedFile
from buildkit.build.model_files import fetch_model_file, missing_model_file
from buildkit.digest import FileHash
from buildkit.layers.models import open_from_paths, open_from_wheel
from buildkit.locks.model_source import ArtifactPlace, OciSource, parse_artifact_place
from buildkit.locks.pins import Artifact, Model, ModelFile, PythonArchive
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Compile
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tasks.task_id import TaskId, TaskKind


class InputTasks:
    """Adds one task to ``tasks`` for each download and each wheel to compile, however many layers need it.

    ``get_builder`` is called only if something must be compiled; ``require_composition`` returns the tasks that import
    it into local storage.
    """

    def __init__(
        self,
        context: BuildContext,
        containers: ContainerRunner,
        tasks: dict[TaskId, Task],
        get_builder: Callable[[], Composition],
        require_composition: Callable[[Composition], tuple[TaskId, ...]],
    ) -> None:
        self._context = context
        self._containers = containers
        self._tasks = tasks
        self._get_builder = get_builder
        self._require_composition = require_composition
        self._tars: dict[FileHash, TaskId] = {}

    def fetch(self, artifact: Artifact) -> TaskId | None:
        """Return the task that fetches a wheel or an sdist; None if the cache has it."""
        assert artifact.sha256 is not None  # noqa: S101 - locks are checked
        path = self._context.blobs.file_path(artifact.sha256, artifact.file)
        return self._fetching(
            f"{artifact.name} {artifact.version}".strip(),
            path,
            artifact.sha256,
            artifact.size,
            lambda progress: self._context.files.fetch(artifact, path, progress),
        )

    def fetch_python(self, archive: PythonArchive) -> TaskId | None:
        """Return the task that fetches the archive of the images' own Python; None if the cache has it."""
        path = self._context.blobs.file_path(archive.sha256, archive.file)
        expected = ExpectedFile(what=f"Python {archive.release}", sha256=archive.sha256, size=archive.size)

        def fetch(progress: Callable[[int], None]) -> None:
            from buildkit.tools.standalone_python import find_python_urls  # few projects have such a Python

            urls = find_python_urls(archive, self._context.project.folder, os.environ)
            self._context.files.fetcher.fetch_from(urls, expected, path, progress=progress)

        return self._fetching(expected.what, path, archive.sha256, archive.size, fetch)

    def python_path(self, archive: PythonArchive) -> Path:
        """Return the path of a fetched archive; raises LostError if it was damaged or removed since."""
        return self._context.files.get_file(f"Python {archive.release}", archive.sha256, archive.file)

    def fetch_model_file(self, model: Model, file: ModelFile) -> TaskId | None:
        """Return the task that fetches a file of a model; None if the cache has it."""
        path, place = self._context.blobs.file_path(file.sha256, Path(file.path).name), _find_tar(model, file)
        if place and place.blob in self._tars and not path.exists():
            return self._tars[place.blob]
        task = self._fetching(
            f"{model.name}: {file.path}",
            path,
            file.sha256,
            file.size,
            lambda progress: fetch_model_file(self._context, model, file, progress),
        )
        if place and task:
            self._tars[place.blob] = task
        return task

    def _fetching(
        self, step: str, path: Path, sha256: FileHash, size: int, fetch: Callable[[Callable[[int], None]], None]
    ) -> TaskId | None:
        name = TaskId(TaskKind.FETCH, str(path))
        if self._context.blobs.has_file(sha256, path.name):
            return None
        if name not in self._tasks:

            def action() -> Outcome:
                size = self._context.files.download(sha256, path, lambda: fetch(self._context.progress(step)))
                return Outcome(note="fetched by another build") if size is None else Outcome(size=size)

            self._tasks[name] = Task(name=step, phase="fetch", lane=Lane.NET, action=action, total=size or None)
        return name

    def compile(self, item: Compile) -> TaskId | None:
        """Return the task that compiles a wheel; None if the cache has it."""
        context = self._context
        if context.files.find_wheel(item.key) is not None:
            return None
        name = TaskId.of_key(TaskKind.COMPILE_WHEEL, item.key)
        if name not in self._tasks:
            builder = self._get_builder()
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
        """Return the path of a fetched or compiled wheel; raises LostError if it was damaged or removed since."""
        what = f"{artifact.name} {artifact.version}".strip()
        if compiled is None:
            assert artifact.sha256 is not None  # noqa: S101 - locks are checked
            return self._context.files.get_file(what, artifact.sha256, artifact.file)
        return self._context.files.get_wheel(what, compiled.key)

    def check_downloads(self, model: Model, files: Iterable[ModelFile]) -> None:
        """Raise LostError if downloads of a model were damaged since, which also removes them, or are gone."""
        if model.wheel is not None:
            self.wheel_path(model.wheel, None)
        if model.has_own_files:
            for file in files:
                self._context.files.get_file(f"{model.name}: {file.path}", file.sha256, Path(file.path).name)

    def open_model(self, model: Model) -> Callable[[ModelFile], Iterator[bytes]]:
        """Return a function that opens files of a model.

        Raises MismatchError if one of the repository's own files is missing. Reading raises LostError if a download was
        removed since.
        """
        context = self._context
        if model.wheel is not None:
            return open_from_wheel(self.wheel_path(model.wheel, None))
        if model.has_own_files:
            return lambda file: context.files.read_file(f"{model.name}: {file.path}", file.sha256, Path(file.path).name)
        for file in model.files:
            if not (context.project.folder / file.source).is_file():
                raise missing_model_file(context.project.folder, model, file)
        return open_from_paths(lambda file: context.project.folder / file.source)

    def find_model_file(self, model: Model, file: ModelFile) -> Path | None:
        """Return where a file of a model is, or would be; None for one that is in a wheel."""
        if model.wheel is not None:
            return None
        if model.has_own_files:
            return self._context.blobs.file_path(file.sha256, Path(file.path).name)
        return self._context.project.folder / file.source


def _find_tar(model: Model, file: ModelFile) -> ArtifactPlace | None:
    """Return the place of a file in a tar, which is fetched once for all files in it."""
    place = parse_artifact_place(file.source) if isinstance(model.source, OciSource) else None
    return place if place and place.member else None
