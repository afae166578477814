"""The config of an image: what its stage declares, and what its layers and its base add."""

from __future__ import annotations

from dataclasses import replace

from buildkit.declare.graph import ResolvedStage
from buildkit.declare.project import Project
from buildkit.declare.stage import Config
from buildkit.declare.target import SYSTEM_PATH
from buildkit.oci.image import TITLE
from buildkit.plan.framework_layer import framework_environment
from buildkit.plan.model_layout import hub_environment
from buildkit.plan.mounted_models import label_models
from buildkit.plan.spec import Kind, PackModel, Spec


def compose_config(
    project: Project, resolved: ResolvedStage, layers: tuple[Spec, ...], models: tuple[Spec, ...], base: str
) -> Config:
    """Return the stage's config with variables and labels added; those that the stage declares stand.

    ``models`` are the layers of models in an image of their own. ``base`` is the registry's image at the bottom,
    NAME:TAG@DIGEST or NAME@DIGEST, empty if there is none.
    """
    config = resolved.config
    works = [spec.work for spec in (*layers, *models) if isinstance(spec.work, PackModel)]
    declared = dict(config.env)
    env = _path(project, resolved, layers) | framework_environment(resolved, layers, declared) | declared
    labels = {
        TITLE: f"{project.name}/{resolved.stage.name}",
        "org.opencontainers.image.description": resolved.stage.summary,
        **dict(project.labels),
        **label_models(models),
        **_base_labels(base),
        **dict(config.labels),
    }
    return replace(config, env=tuple((hub_environment(works, env) | env).items()), labels=tuple(labels.items()))


def _path(project: Project, resolved: ResolvedStage, layers: tuple[Spec, ...]) -> dict[str, str]:
    """Return the variables that find programs. The PATH of a registry's image is known when it is pulled."""
    path = "$PATH" if resolved.chain and not resolved.chain[0].debian else SYSTEM_PATH
    if any(spec.kind is Kind.PREFIX for spec in layers):
        prefix = project.target.prefix
        return {"PATH": f"{prefix}/bin:{path}", "VIRTUAL_ENV": prefix}
    return {"PATH": path} if resolved.chain else {}


def _base_labels(base: str) -> dict[str, str]:
    name, _, digest = base.partition("@")
    return {"org.opencontainers.image.base.name": name, "org.opencontainers.image.base.digest": digest} if base else {}
