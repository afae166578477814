"""A model repository: which files lie in the folder of each version, and what is known of it before a model is read.

The layout is ``NAME/config.pbtxt`` and ``NAME/VERSION/FILE`` ("Repository Layout" of Triton's user guide).
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.schema import suggest_word
from buildkit.declare.serve_settings import ServedEnsemble, ServedModel, Serving
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.pins import Model, ModelFile
from buildkit.triton.check_config import ConfigFacts, ConfigOrigin, Fault, check_config
from buildkit.triton.data_types import BACKENDS, ONNXRUNTIME, PYTHON
from buildkit.triton.ensembles import check_wiring, wire
from buildkit.triton.generate import configure
from buildkit.triton.model_config import ModelConfig
from buildkit.triton.read_config import WrittenConfig, read_config

_ONNX = ".onnx"
_CONFIG, _SCRIPT = "config.pbtxt", "model.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFolder:
    """A version: its number and the locked model; ``places`` are paths of its files, and where they lie in the folder.

    ``graph`` is the file with its graph, if that can be read.
    """

    number: int
    model: Model
    places: tuple[tuple[str, str], ...]
    graph: ModelFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryModel:
    """A model of a repository; ``written`` is its configuration if that was written by hand.

    With ``runs_onnx``, a script of ours runs its graphs in the Python backend.
    """

    settings: ServedModel
    backend: str
    folders: tuple[VersionFolder, ...]
    origin: ConfigOrigin
    written: WrittenConfig | None = None
    runs_onnx: bool = False

    @property
    def name(self) -> str:
        """Its name for clients."""
        return self.settings.name

    @property
    def texts(self) -> Mapping[str, str]:
        """The files of its folder that the repository has as texts, by name."""
        known = dict(self.settings.texts)
        return {posixpath.basename(path): known[path] for path in self.settings.files}

    @property
    def config(self) -> ModelConfig:
        """What is known of its configuration before its graph is read."""
        return self.written.config if self.written else configure(self.settings, self.backend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A model repository at ``target``; ``file`` is the stage file that asks for it."""

    file: str
    target: str
    models: tuple[RepositoryModel, ...]
    ensembles: tuple[ServedEnsemble, ...] = ()

    def ensemble_origin(self, ensemble: ServedEnsemble) -> ConfigOrigin:
        """Return where an ensemble is asked for."""
        return ConfigOrigin(file=self.file, key=f"serve.ensemble {ensemble.name}")


def make_repository(
    serving: Serving, *, backend: str, file: str, models: Mapping[str, Model], gpu: GpuRequest | None
) -> Repository:
    """Return the repository that a stage asks for; ``models`` are those of its lock, ``backend`` runs ONNX models.

    Raises DefinitionError with everything that is wrong and can be known without reading a model.
    """
    problems: list[Problem] = []
    made = [_model(one, backend, (file, models), problems) for one in serving.models]
    repository = Repository(
        file=file,
        target=serving.target.rstrip("/"),
        models=tuple(filter(None, made)),
        ensembles=serving.ensembles,
    )
    problems += _check(repository, gpu)
    if problems:
        raise DefinitionError.of(problems)
    return repository


def _check(repository: Repository, gpu: GpuRequest | None) -> Iterator[Problem]:
    configs = {one.name: one.config for one in repository.models}
    configs |= {one.name: wire(one) for one in repository.ensembles}
    served = {one.name: one.config.policy.served(one.settings.numbers) for one in repository.models}
    served |= {one.name: (1,) for one in repository.ensembles}
    for model in repository.models:
        facts = ConfigFacts(
            name=model.name,
            versions=_files(model),
            texts=tuple(model.texts),
            gpu=gpu,
            platform=model.written.platform if model.written else "",
        )
        faults = [*check_config(model.config, facts)]
        if model.config.steps:
            faults += check_wiring(model.config, configs, served)
        yield from map(model.origin.problem, faults)
    for ensemble in repository.ensembles:
        origin = repository.ensemble_origin(ensemble)
        yield from map(origin.problem, check_wiring(configs[ensemble.name], configs, served))


def _files(model: RepositoryModel) -> dict[int, tuple[str, ...]]:
    scripted = (_SCRIPT,) if model.settings.script or model.runs_onnx else ()
    folders = {folder.number: folder.places for folder in model.folders}
    return {number: (*(place for _, place in folders.get(number, ())), *scripted) for number in model.settings.numbers}


def _model(
    settings: ServedModel, backend: str, known: tuple[str, Mapping[str, Model]], problems: list[Problem]
) -> RepositoryModel | None:
    """Return a model with its files, None if its configuration cannot be read."""
    file, models = known
    written = None
    if settings.config:
        try:
            written = read_config(dict(settings.texts)[settings.config], settings.config, settings.name)
        except DefinitionError as error:
            problems += error.problems
            return None
        written = _with_backend(written, PYTHON if settings.script else backend)
    own = written.config.backend if written else backend
    lines = written.lines if written else None
    origin = ConfigOrigin(file=settings.config if written else file, key=f"serve.model {settings.name}", lines=lines)
    stage = ConfigOrigin(file=file, key=f"serve.model {settings.name}")
    faults: list[Fault] = []
    graph = own == ONNXRUNTIME or (own == PYTHON and not settings.script)
    wanted = (
        (written.config.file if written else "") or BACKENDS[ONNXRUNTIME if graph else own].file
        if (graph or own in BACKENDS)
        else ""
    )
    scripted = bool(settings.script) or (graph and own == PYTHON)
    folders = tuple(_folders(settings, models, (wanted, scripted), faults))
    problems += map(stage.problem, faults)
    return RepositoryModel(
        settings=settings,
        backend=own,
        folders=folders,
        origin=origin,
        written=written,
        runs_onnx=scripted and not settings.script,
    )


def _with_backend(written: WrittenConfig, backend: str) -> WrittenConfig:
    """Return a configuration with the backend of the stage, if it names none itself."""
    if written.config.backend:
        return written
    return written if written.platform else replace(written, config=replace(written.config, backend=backend))


def _folders(
    settings: ServedModel, models: Mapping[str, Model], loads: tuple[str, bool], faults: list[Fault]
) -> Iterator[VersionFolder]:
    """Yield the folders of versions; the backend ``loads`` a file and, if the second says so, a script of ours."""
    wanted, scripted = loads
    for number, name in settings.versions:
        model = models.get(name)
        if model is None:
            hint = suggest_word(name, list(models)) or f"it has {', '.join(models)}"
            faults.append(Fault(field="input", what=f"the lock has no model `{name}`, version {number}", hint=hint))
            continue
        main = None if settings.script else _main(model, settings.file, wanted, faults)
        places = tuple(_places(model.files, main, wanted))
        for path in _taken_twice([*(place for _, place in places), *([_SCRIPT] if scripted else [])]):
            what = f"two files of `{name}` would be {number}/{path}"
            faults.append(Fault(field="input", what=what, hint="leave one out of the lock, or name another by `file`"))
        graph = main if wanted.endswith(_ONNX) else None
        yield VersionFolder(number=number, model=model, places=places, graph=graph)


def _taken_twice(places: Sequence[str]) -> Iterator[str]:
    """Yield the places at which two files would be, or a file and the folder of another."""
    above = {place[:at] for place in places for at, letter in enumerate(place) if letter == "/"}
    yield from (place for place, times in Counter(places).items() if times > 1 or place in above)


def _main(model: Model, chosen: str, wanted: str, faults: list[Fault]) -> ModelFile | None:
    """Return the file that the backend loads, None if it is not known which."""
    suffix = posixpath.splitext(wanted)[1]
    paths = [file.path for file in model.files]
    if chosen:
        if chosen not in paths:
            hint = suggest_word(chosen, paths) or f"it has {', '.join(paths[:20])}"
            faults.append(Fault(field="", what=f"`{model.name}` has no file `{chosen}`", hint=hint))
            return None
        return next(file for file in model.files if file.path == chosen)
    if not wanted:
        return None
    found = [file for file in model.files if posixpath.splitext(file.path)[1] == suffix]
    exact = [file for file in found if file.path == wanted] or found
    if len(exact) == 1:
        return exact[0]
    names = ", ".join(file.path for file in exact) or f"it has {', '.join(paths[:20])}"
    what = f"`{model.name}` has {len(exact) or 'no'} files of the kind {suffix}"
    faults.append(Fault(field="", what=what, hint=f"choose one by `file`: {names}" if exact else names))
    return None


def _places(files: Sequence[ModelFile], main: ModelFile | None, wanted: str) -> Iterator[tuple[str, str]]:
    """Yield paths and places of files in a version's folder: the main one has the name that the backend looks for."""
    folder = posixpath.dirname(main.path) + "/" if main and "/" in main.path else ""
    for file in files:
        yield file.path, wanted if file == main else file.path.removeprefix(folder)
