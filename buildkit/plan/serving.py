"""The layers of a model repository: those of the folders of versions, and a small one of configurations. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from buildkit.declare.graph import ResolvedStage
from buildkit.declare.project import Project
from buildkit.declare.serve_settings import BACKENDS
from buildkit.declare.stage import Stage
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.pins import PLAIN
from buildkit.plan.checkout import Checkout
from buildkit.plan.model_layout import model_layer, pack_model
from buildkit.plan.roots import step_names
from buildkit.plan.spec import Kind, PackServing, Spec, distinct, make_recipe, make_spec
from buildkit.triton.files import FORMAT, onnx_script
from buildkit.triton.repository import Repository, RepositoryModel, make_repository

_NAME = "model-repository"


def compose_serving(resolved: ResolvedStage, checkout: Checkout, project: Project) -> Iterator[Spec]:
    """Yield the layers of the repository that an image has. Raises DefinitionError for what is wrong with it.

    What runs ONNX models is what the stage says, else one that it includes: the folders of versions are the same.
    """
    stage = _find_stage(resolved)
    serving = stage.serve
    assert serving is not None  # noqa: S101 - it was looked for
    chosen = (part.serve.backend for part in reversed(resolved.parts) if part.serve and part.serve.backend)
    repository = make_repository(
        serving,
        backend=next(chosen, BACKENDS[0]),
        file=stage.file,
        models={model.name: model for model in checkout.models(serving.lock)} if serving.lock else {},
        gpu=resolved.gpu,
    )
    for model in repository.models:
        for folder in model.folders:
            place = f"{repository.target}/{model.name}/{folder.number}"
            moved = replace(folder.model, target=place, layout=PLAIN)
            for name, work in pack_model(moved, repository.target, folder.places):
                below = name.removeprefix(moved.name)
                yield model_layer(stage, f"{model.name}/{folder.number}{below}", work, project.stored)
    yield _small_layer(resolved.stage, repository, project)


def _find_stage(resolved: ResolvedStage) -> Stage:
    """Return the stage whose models an image serves."""
    found = [part for part in resolved.parts if part.serve and part.serve.models]
    if len(found) == 1:
        return found[0]
    if not found:
        what, hint = "has no models to serve", "add [[serve.model]], or `include` a stage that has some"
    else:
        names = " and ".join(f"`{part.name}`" for part in found)
        what, hint = f"the image would have two model repositories, of {names}", "put their models into one stage"
    raise DefinitionError.of([Problem(file=resolved.stage.file, key="serve", what=what, hint=hint)])


def _small_layer(stage: Stage, repository: Repository, project: Project) -> Spec:
    recipe, key = make_recipe(
        Kind.SERVING,
        made=FORMAT,
        target=repository.target,
        models=[_model_recipe(model) for model in repository.models],
        ensembles=[asdict(ensemble) for ensemble in repository.ensembles],
        **project.stored,
    )
    name = distinct(_NAME, step_names(stage))
    history = f"model repository: {repository.target}"
    return make_spec(stage, name, Kind.SERVING, recipe, key, work=PackServing(repository=repository), history=history)


def _model_recipe(model: RepositoryModel) -> dict[str, Any]:
    """Return what the files of a model depend on: settings, texts, and the graphs of its versions by their hashes."""
    settings = asdict(replace(model.settings, texts=(), versions=()))
    del settings["texts"]
    return {
        **settings,
        "backend": model.backend,
        "runner": FileHash.of(onnx_script().encode()).hex if model.runs_onnx else "",
        "texts": [[path, FileHash.of(text.encode()).hex] for path, text in model.settings.texts],
        "versions": [
            [folder.number, [place for _, place in folder.places], folder.graph.sha256.hex if folder.graph else ""]
            for folder in model.folders
        ],
    }
