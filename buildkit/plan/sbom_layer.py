"""The layer of an image's own SBOM, on top of all others."""

from __future__ import annotations

from buildkit.declare.project import Project
from buildkit.declare.stage import Config, Stage
from buildkit.oci.image import VERSION
from buildkit.plan.roots import step_names
from buildkit.plan.spec import Kind, PackModel, PackSbom, Spec, distinct, make_recipe, make_spec

SBOM_FOLDER = "usr/share/sbom"  # scanners find it by the end of its name


def compose_sbom(
    project: Project, stage: Stage, root: tuple[Spec, ...], layers: tuple[Spec, ...], config: Config
) -> Spec:
    """Return the layer with what the root and the layers hold; ``config`` has the image's version among its labels."""
    path = f"/{SBOM_FOLDER}/{project.name}-{stage.name}.cdx.json"
    image, version = f"{project.name}/{stage.name}", dict(config.labels).get(VERSION, "")
    models = {spec.work.model.name: spec.work.model for spec in layers if isinstance(spec.work, PackModel)}
    recipe, key = make_recipe(
        Kind.SBOM,
        path=path,
        title=image,
        version=version,
        arch=project.target.deb_arch,
        layers=[[spec.name, spec.key.hex] for spec in (*root, *layers)],
        models=[[model.name, model.version, model.license, str(model.source)] for model in models.values()],
        **project.stored,
    )
    work = PackSbom(root=root, layers=layers, path=path, image=image, version=version)
    name = distinct("sbom", step_names(stage))
    return make_spec(stage, name, Kind.SBOM, recipe, key, work=work, history=f"SBOM: {path}")
