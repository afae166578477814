"""What derived models of a checkout are made from now, against what their lock says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from buildkit.build.copy_source import suggest_path
from buildkit.build.own_files import own_path
from buildkit.declare.graph import Graph
from buildkit.declare.schema import suggest_word
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.derivation import Derivation, DeriveRequest, script_path
from buildkit.locks.model_source import RepoSource
from buildkit.locks.models_lock import ModelsLock
from buildkit.locks.pins import Artifact, DerivedFrom, Model, ModelFile
from buildkit.plan.derivations import Listing, list_files, make_derived_from
from buildkit.store.stat_index import StatIndex

MAKE = "run: nox -s derive"
_PATH = "path:"


class DerivedModels:
    """Finds what the derivations of one models file depend on; ``models`` are the models of that file, by name.

    ``artifacts`` returns the distributions of a requirements lock.
    """

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        index: StatIndex,
        artifacts: Callable[[str], tuple[Artifact, ...]],
        models: Mapping[str, Model],
    ) -> None:
        self._folder = folder
        self._graph = graph
        self._index = index
        self._artifacts = artifacts
        self._models = models
        self._libraries = cache(self._find_libraries)

    def find(self, name: str, derivation: Derivation, source: Model) -> DerivedFrom:
        """Return what a model is derived from now; raises DefinitionError for a stage, a script or data that is not."""
        read: dict[str, Listing] = {}
        files: list[str] = []
        for place in derivation.scripts:
            path = script_path(place)
            read[path] = [[path, self._hash_script(name, path)]]
            files.append(path)
        for words in filter(None, (derivation.data, derivation.calibration)):
            data = self.data(name, words)
            read[words] = list_files(data.files)
            files += (file.source for file in data.files if isinstance(data.source, RepoSource))
        return make_derived_from(derivation, source, self._libraries(name, derivation.stage), read, files)

    def data(self, name: str, data: str) -> Model:
        """Return what a derivation is measured or calibrated with: files of the repository, or a model of the lock."""
        if not data.startswith(_PATH):
            if data not in self._models:
                raise DefinitionError(
                    f"model {name}: its data, the model `{data}`, is not locked", hint="run: nox -s lock"
                )
            return self._models[data]
        from buildkit.build.model_folder import list_model_folder  # few projects derive models

        path = data.removeprefix(_PATH)
        present = list_model_folder(self._folder, path, name, ()).files
        if not present:
            hint = suggest_path(self._folder, path) or "name a folder of the repository"
            raise DefinitionError(f"model {name}: its data, {path}, has no file", hint=hint)
        hashed = self._index.hash_all(self._folder, present.values())
        files = [
            ModelFile(path=file, sha256=hashed[place][0], size=hashed[place][1].st_size, source=place)
            for file, place in sorted(present.items())
        ]
        return Model(name=data, version="", source=RepoSource(path=path), license="", files=tuple(files))

    def _hash_script(self, name: str, path: str) -> str:
        own_path(self._folder, path, f"a script of model `{name}`")
        try:
            return self._index.hash(self._folder / path)[0].hex
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            hint = suggest_path(self._folder, path) or "write PATH.py:FUNCTION"
            raise DefinitionError(f"model {name}: there is no script {path}", hint=hint) from None

    def _find_libraries(self, name: str, stage: str) -> tuple[tuple[str, str], ...]:
        if stage not in self._graph.stages:
            hint = (
                suggest_word(stage, list(self._graph.stages)) or "add one with the tools' wheels, such as onnxruntime"
            )
            raise DefinitionError(f"model {name} is derived in the stage `{stage}`, and there is none", hint=hint)
        locks = dict.fromkeys(lock for part in self._graph.resolve(stage).parts for lock in part.wheels)
        found = {artifact.name: artifact.version for lock in locks for artifact in self._artifacts(lock)}
        return tuple(sorted(found.items()))


def attach_origins(
    models: Iterable[Model], lock: ModelsLock, file: str, asked: Iterable[DeriveRequest], derived: DerivedModels
) -> tuple[Model, ...]:
    """Return the models of a lock, derived ones with their origins; raises DefinitionError for one that is not current.

    ``file`` is the lock, ``asked`` what its models file asks for.
    """
    keys = {model.name: key for model, key in zip(lock.models, lock.requests, strict=True)}
    known = {model.name: model for model in models}
    problems = [
        Problem(file=file, key=f"model {request.name}", what="is not derived yet", hint=f"{MAKE} -- {request.name}")
        for request in asked
        if request.name not in keys
    ]
    found: dict[str, Model] = {}

    def attach(name: str, within: tuple[str, ...]) -> Model:
        model = known[name]
        if model.derivation is None or name in found:
            return found.setdefault(name, model)
        of = model.derivation.of
        if of not in known or of in within:
            what = "of itself" if of in within else f"of `{of}`, which is not locked"
            raise DefinitionError(f"{file}: model {name} is made {what}", hint="run: nox -s lock")
        origin = derived.find(name, model.derivation, attach(of, (*within, of)))
        if origin.key != keys[name]:
            what = "was made of something else: its source, tool, libraries, script or data changed"
            problems.append(Problem(file=file, key=f"model {name}", what=what, hint=f"{MAKE} -- {name}"))
        return found.setdefault(name, replace(model, origin=origin))

    attached = tuple(attach(name, (name,)) for name in known)
    if problems:
        raise DefinitionError.of(problems)
    return attached
