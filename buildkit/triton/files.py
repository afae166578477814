"""The files of a repository beside the models themselves: configurations, scripts and labels. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from buildkit.errors import DefinitionError, Problem
from buildkit.triton.check_config import ConfigFacts, check_config
from buildkit.triton.check_graph import check_graph
from buildkit.triton.data_types import ENSEMBLE
from buildkit.triton.ensembles import check_tensors, complete, wire
from buildkit.triton.generate import generate
from buildkit.triton.model_config import ModelConfig
from buildkit.triton.onnx_graph import OnnxGraph
from buildkit.triton.render_config import quote_text, render_config
from buildkit.triton.repository import Repository, RepositoryModel

FORMAT = 1
"""Raise it where the same repository gets other files: it stands in recipes."""
Graphs = Mapping[tuple[str, int], OnnxGraph]


@cache
def onnx_script() -> str:
    """Return the script that runs graphs in the Python backend."""
    return (files("buildkit.triton.runner") / "model.py").read_text("utf-8")


def repository_files(repository: Repository, graphs: Graphs) -> dict[str, str | None]:
    """Return the text of each file by its path below the repository; None for a folder that must be there.

    ``graphs`` are those of each model and version that has one. Raises DefinitionError with all that does not fit them.
    """
    problems: list[Problem] = []
    configs = {model.name: _configure(model, graphs, problems) for model in repository.models}
    written = {model.name: dict(_model_files(model, configs[model.name])) for model in repository.models}
    if problems:
        raise DefinitionError.of(problems)
    problems += _complete_ensembles(repository, configs)
    if problems:
        raise DefinitionError.of(problems)
    for ensemble in repository.ensembles:
        written[ensemble.name] = {"config.pbtxt": render_config(configs[ensemble.name]), "1": None}
    return {f"{name}/{path}": text for name, texts in written.items() for path, text in texts.items()}


def _configure(model: RepositoryModel, graphs: Graphs, problems: list[Problem]) -> ModelConfig:
    own = {folder.number: graphs[model.name, folder.number] for folder in model.folders if folder.graph}
    if model.written:
        config = model.written.config
        faults = [fault for number, graph in own.items() for fault in check_graph(config, graph, number)]
    else:
        config, found = generate(model.settings, model.backend, own)
        facts = ConfigFacts(name=model.name, versions={}, texts=tuple(model.texts))
        known = {*check_config(model.config, facts)}  # reported before the graphs were read
        faults = [*found, *(fault for fault in check_config(config, facts) if fault not in known)]
    problems += map(model.origin.problem, dict.fromkeys(faults))
    return config


def _complete_ensembles(repository: Repository, configs: dict[str, ModelConfig]) -> Iterator[Problem]:
    """Add the configurations of ensembles to those of models, each after the ones that it contains."""
    waiting = {one.name: one for one in repository.ensembles}
    while ready := [one for one in waiting.values() if all(step.model in configs for step in one.step)]:
        for ensemble in ready:
            del waiting[ensemble.name]
            problems = [
                repository.ensemble_origin(ensemble).problem(fault) for fault in check_tensors(wire(ensemble), configs)
            ]
            made = {shared for step in ensemble.step for _, shared in step.output}
            problems += [
                Problem(file=repository.file, key=f"serve.ensemble {ensemble.name}.output",
                        what=f"no step makes `{name}`", hint=f"they make {', '.join(sorted(made))}")
                for name in ensemble.output if name not in made
            ]  # fmt: skip
            if not problems:
                configs[ensemble.name] = complete(ensemble, configs)
            yield from problems
    for model in repository.models:
        config = configs[model.name]
        if model.backend == ENSEMBLE and all(step.model in configs for step in config.steps):  # else one has problems
            yield from map(model.origin.problem, check_tensors(config, configs))


def _model_files(model: RepositoryModel, config: ModelConfig) -> Iterator[tuple[str, str | None]]:
    settings = model.settings
    if model.written:
        text = dict(settings.texts)[settings.config]
        added = "" if _names_backend(model) else f"backend: {quote_text(model.backend)}\n"
        yield "config.pbtxt", f"{text.rstrip()}\n{added}"
    else:
        yield "config.pbtxt", render_config(config)
    yield from model.texts.items()
    script = dict(settings.texts).get(settings.script) or (onnx_script() if model.runs_onnx else None)
    for number in settings.numbers:
        if script:
            yield f"{number}/model.py", script
        elif model.backend == ENSEMBLE:
            yield f"{number}", None


def _names_backend(model: RepositoryModel) -> bool:
    """Return whether a configuration that was written by hand names its backend itself."""
    written = model.written
    return written is not None and bool({"backend", "platform", "ensemble_scheduling"} & written.lines.keys())
