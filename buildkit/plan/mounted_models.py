"""Models that an image does not hold: links to where its containers mount them, and a label by which they are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from buildkit.declare.stage import Stage
from buildkit.digest import Key, canonical_json
from buildkit.oci.image import MODELS
from buildkit.plan.roots import step_names
from buildkit.plan.spec import Kind, PackLinks, PackModel, Spec, distinct, make_recipe, make_spec

MODELS_MOUNT = "/mnt/models"
"""Where containers mount the image of their models, whose folders are those that it has in other images."""


def link_models(stage: Stage, models: Iterable[Spec], stored: Mapping[str, str]) -> Spec:
    """Return the layer of links that lead from the folders of models to where these are mounted.

    ``stored`` are a recipe's entries for the storage of layers.
    """
    folders = sorted({spec.work.target for spec in models if isinstance(spec.work, PackModel)})
    links = tuple((folder, f"{MODELS_MOUNT}{folder}") for folder in folders)
    recipe, key = make_recipe(Kind.LINKS, links=[list(link) for link in links], **stored)
    name, history = distinct("models", step_names(stage)), f"links to models in {MODELS_MOUNT}"
    return make_spec(stage, name, Kind.LINKS, recipe, key, work=PackLinks(links=links), history=history)


def label_models(models: Iterable[Spec]) -> dict[str, str]:
    """Return the label that an image of models and those that mount it have in common: a key of all models."""
    keys = sorted({spec.key.hex for spec in models})
    return {MODELS: Key.of(canonical_json(keys).encode()).hex} if keys else {}
