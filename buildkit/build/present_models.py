"""Models of the repository as they are on disk, against what their lock says."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from buildkit.build.options import ModelChanges
from buildkit.build.own_files import own_path
from buildkit.errors import DefinitionError
from buildkit.events import Emit, Note
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.store.stat_index import Hashed, StatIndex


class PresentModels:
    """Reads the models below ``folder``; ``changes`` says what happens if one differs from its lock."""

    def __init__(self, folder: Path, index: StatIndex, changes: ModelChanges, emit: Emit) -> None:
        self._folder = folder
        self._index = index
        self._changes = changes
        self._emit = emit

    def read(self, model: Model, lock: str, patterns: tuple[str, ...] | None) -> Model:
        """Return one model as `read_all` does."""
        return self.read_all((model,), lock, {model.name: patterns})[0]

    def read_all(
        self, models: Sequence[Model], lock: str, patterns: Mapping[str, tuple[str, ...] | None]
    ) -> tuple[Model, ...]:
        """Return the models as they are now: the repository's own have the present files with their hashes.

        ``patterns`` choose a model's files by its name; if they are not known, no file is looked for that the lock
        lacks. Files that changed are read several at once.
        """
        listed = {
            model.name: self._list(model, model.source, lock, patterns.get(model.name))
            for model in models
            if isinstance(model.source, RepoSource)
        }
        here = (file.source for model in models for file in model.files if file.path in listed.get(model.name, ()))
        hashed = self._index.hash_all(self._folder, here)
        return tuple(
            self._read(model, lock, listed[model.name], hashed) if model.name in listed else model for model in models
        )

    def _list(self, model: Model, source: RepoSource, lock: str, patterns: tuple[str, ...] | None) -> Mapping[str, str]:
        """Return the paths of the files that a model has now, by their paths in the model."""
        from buildkit.build.model_folder import list_model_folder  # most models come from elsewhere

        chosen = tuple(file.path for file in model.files) if patterns is None else patterns
        present = list_model_folder(self._folder, source.path, model.name, chosen).files
        for file in model.files:
            if present.get(file.path) != file.source:  # what was listed is known to be the repository's own
                self._check_source(model, file, lock)
        return present

    def _read(self, model: Model, lock: str, present: Mapping[str, str], hashed: Mapping[str, Hashed]) -> Model:
        locked = {file.path for file in model.files}
        files = [self._present_file(model, file, lock, hashed, is_here=file.path in present) for file in model.files]
        added = [self._added_file(model, name, present[name], lock) for name in sorted(present.keys() - locked)]
        return replace(model, files=(*files, *added))

    def _check_source(self, model: Model, file: ModelFile, lock: str) -> None:
        """Raise DefinitionError for a file of another place: a lock, which a pull request may change, names none.

        That holds for a file that the request does not choose, too: its bytes would be read if a layer needs them.
        """
        assert isinstance(model.source, RepoSource)  # noqa: S101 - the caller's check
        folder = posixpath.normpath(model.source.path)
        places = (posixpath.join(folder, file.path), folder if posixpath.basename(folder) == file.path else "")
        if posixpath.normpath(file.source) not in places:
            raise DefinitionError(
                f"{lock}: {file.source} is not a file of model `{model.name}` ({model.source})", hint="run: nox -s lock"
            )
        own_path(self._folder, file.source, f"model `{model.name}`")

    def _added_file(self, model: Model, path: str, source: str, lock: str) -> ModelFile:
        self._report_change(f"{source}: model `{model.name}` has this file, which {lock} lacks", "remove")
        sha256, status = self._index.hash(self._folder / source)
        return ModelFile(path=path, sha256=sha256, size=status.st_size, source=source)

    def _present_file(
        self, model: Model, file: ModelFile, lock: str, hashed: Mapping[str, Hashed], *, is_here: bool
    ) -> ModelFile:
        try:
            if not is_here:
                raise FileNotFoundError
            # a link is followed
            sha256, status = hashed.get(file.source) or self._index.hash(self._folder / file.source)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if self._changes is ModelChanges.FROZEN:
                from buildkit.build.model_folder import advise_missing

                raise DefinitionError(
                    f"{file.source}: this file of model `{model.name}` ({lock}) is missing",
                    hint=advise_missing(self._folder, file.source),
                ) from None
            return file  # its key is known from the lock; the build fails only if it needs the bytes
        if sha256 == file.sha256:
            return file
        self._report_change(f"{file.source}: model `{model.name}` differs from {lock}", "restore")
        return replace(file, sha256=sha256, size=status.st_size)

    def _report_change(self, what: str, undo: str) -> None:
        match self._changes:
            case ModelChanges.FROZEN:
                raise DefinitionError(what, hint=f"run: nox -s lock, or {undo} the file")
            case ModelChanges.REFUSE:
                hint = "run: nox -s lock (or build with --changed-models, to try the file)"
                raise DefinitionError(what, hint=hint)
            case ModelChanges.ACCEPT:
                self._emit(Note(text=f"{what}; using the present file (nox -s lock records it)", warning=True))
            case ModelChanges.REPORT:
                self._emit(Note(text=f"{what}; a build refuses that (nox -s lock records it)", warning=True))
