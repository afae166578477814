"""``[serve]``: models that Triton serves from an image, as a stage file asks for them."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from buildkit.declare.paths import check_target
from buildkit.declare.schema import ValueLocation
from buildkit.lazy_dataclass import dataclass

BACKENDS = ("onnxruntime", "python")
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeInstances:
    """Copies of a model: ``count`` on the CPU, or on each of ``gpus`` (none: on each that there is)."""

    count: int = 1
    kind: str = "cpu"
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeBatching:
    """How requests are put together; times in milliseconds, ``queue`` is the most that wait (0: no limit)."""

    preferred: tuple[int, ...] = ()
    delay: float = 0.0
    queue: int = 0
    timeout: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeWarmUp:
    """A request before an instance counts as ready; ``shapes`` are those of inputs with dimensions that vary."""

    batch: int = 1
    data: str = "zero"
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model of the repository: numbers of versions, and the models of the lock that they are.

    ``file`` is the main file of models with several. ``config``, ``script`` and ``files`` are paths of the repository,
    whose content is in ``texts`` once it is read. The ``latest`` so many versions are served, those of ``only``, or
    all.
    """

    name: str
    versions: tuple[tuple[int, str], ...] = ()
    file: str = ""
    config: str = ""
    script: str = ""
    files: tuple[str, ...] = ()
    texts: Pairs = ()
    max_batch: int = 0
    threads: int = 0
    instances: tuple[ServeInstances, ...] = (ServeInstances(),)
    batching: ServeBatching | None = None
    warm_up: ServeWarmUp | None = None
    cache: bool = False
    latest: int = 0
    only: tuple[int, ...] = ()

    @property
    def read_files(self) -> tuple[str, ...]:
        """The files of the repository that it names."""
        return tuple(dict.fromkeys(filter(None, (self.config, self.script, *self.files))))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of its versions; one without models, a script or an ensemble, is version 1."""
        return tuple(number for number, _ in self.versions) or (1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeStep:
    """A step of an ensemble: pairs of the model's tensor and the ensemble's; version 0 is the latest."""

    model: str
    version: int = 0
    input: Pairs = ()
    output: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedEnsemble:
    """Models that answer one request; ``output`` are tensors that it returns, empty for those that no step takes."""

    name: str
    step: tuple[ServeStep, ...]
    output: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A model repository at ``target``. ``backend`` is what runs ONNX models, empty for the default.

    A stage with a backend alone says how those of the stages that it includes are run.
    """

    lock: str = ""
    target: str = "/models"
    backend: str = ""
    models: tuple[ServedModel, ...] = ()
    ensembles: tuple[ServedEnsemble, ...] = ()

    @property
    def read_files(self) -> tuple[str, ...]:
        """The files of the repository that it names, relative to it."""
        return tuple(dict.fromkeys(file for model in self.models for file in model.read_files))

    def with_texts(self, texts: Mapping[str, str]) -> Serving:
        """Return the same with the content of its files."""
        models = (replace(one, texts=tuple((file, texts[file]) for file in one.read_files)) for one in self.models)
        return replace(self, models=tuple(models))


def parse_serving(read: dict[str, Any] | None, place: ValueLocation) -> Serving | None:
    """Return what `SERVE` read, None for nothing; report what contradicts itself."""
    if read is None:
        return None
    models = tuple(_model(item, place.at("model").at(n)) for n, item in enumerate(read.get("model", ())))
    ensembles = tuple(_ensemble(item) for item in read.get("ensemble", ()))
    names = Counter((*(one.name for one in models), *(one.name for one in ensembles)))
    for name in sorted(name for name, times in names.items() if name and times > 1):
        place.report(f"two models are named `{name}`")
    if "lock" not in read and any(model.versions for model in models):
        place.at("lock").report("is missing", "the models lock that has the versions")
    if not models and "backend" not in read and not place.at("model").faulty:
        place.report("has no models", "add [[serve.model]], or say `backend` for those of stages that are included")
    serving = Serving(
        **{key: read[key] for key in ("lock", "target", "backend") if key in read}, models=models, ensembles=ensembles
    )
    check_target(serving.target, place.at("target"))
    return serving


_OWN_NAME = re.compile(r"config\.pbtxt|[0-9]+")
_GENERATED = ("max_batch", "threads", "instances", "batching", "warm_up", "cache", "policy")


def _model(item: dict[str, Any], place: ValueLocation) -> ServedModel:
    known: dict[str, Any] = {key: item[key] for key in ("name", "file", "max_batch", "threads", "cache") if key in item}
    known |= {key: posixpath.normpath(item[key]) for key in ("config", "script") if key in item}
    known["files"] = tuple(posixpath.normpath(file) for file in item.get("files", ()))
    names = [posixpath.basename(file) for file in known["files"]]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1 or _OWN_NAME.fullmatch(name)):
        what = f"`{name}` would be two files of the model's folder"
        place.at("files").report(what, "rename one: config.pbtxt and numbers are the repository's own")
    known["versions"] = tuple(sorted((int(number), name) for number, name in item.get("versions", ())))
    for key in _GENERATED if "config" in item else ():
        if key in item:
            place.at(key.replace("_", "-")).report("has no effect with `config`", "write it into that file")
    if "script" in item and "config" not in item:
        place.at("config").report("is missing", "what a script takes and returns stands in a config.pbtxt")
    if not known["versions"] and "config" not in item and not place.at("versions").faulty:
        place.at("versions").report("is missing", 'versions = { 1 = "NAME" }, of the models lock')
    if "instances" in item:
        known["instances"] = tuple(_instances(item["instances"], place.at("instances")))
    if "batching" in item:
        known["batching"] = ServeBatching(**item["batching"])
    if "warm_up" in item:
        known["warm_up"] = ServeWarmUp(**item["warm_up"])
    return ServedModel(**{"name": "", **known}, **item.get("policy", {}))


def _instances(read: int | tuple[dict[str, Any], ...], place: ValueLocation) -> Iterator[ServeInstances]:
    if isinstance(read, int):
        yield ServeInstances(count=read)
        return
    for number, item in enumerate(read):
        group = ServeInstances(**item)
        if group.gpus and group.kind != "gpu":
            place.at(number).at("gpus").report("is for instances on GPUs", 'add kind = "gpu"')
        yield group


def _ensemble(item: dict[str, Any]) -> ServedEnsemble:
    steps = tuple(ServeStep(**{"model": "", **step}) for step in item.get("step", ()))
    return ServedEnsemble(name=item.get("name", ""), step=steps, output=item.get("output", ()))


SERVED_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
