"""Compose a root that a Containerfile makes: the image that it starts from, and one layer on it. Pure."""

from __future__ import annotations

from dataclasses import replace

from buildkit.declare.containerfile_root import ContainerfileRoot
from buildkit.declare.project import Project
from buildkit.declare.stage import Stage
from buildkit.errors import DefinitionError
from buildkit.plan.checkout import Checkout
from buildkit.plan.pulled_image import pull_spec
from buildkit.plan.spec import BuildContainerfile, Kind, Spec, make_recipe, make_spec


def compose_containerfile(
    stage: Stage, root: ContainerfileRoot, checkout: Checkout, project: Project
) -> tuple[Spec, ...]:
    """Return the layers of the image below, if there is one, and the layer of the Containerfile's own result.

    Its recipe has the file, the files of its context, and the digest of every image that it names.
    """
    if project.target.sees_system:
        raise DefinitionError(
            f"{stage.file}: what a Containerfile installs is not locked, so wheels cannot stand on it",
            hint='set site-packages = "own" in [tool.buildkit]',
        )
    text, inputs, context = checkout.containerfile(root)
    arch = project.target.deb_arch
    specs = {name: pull_spec(stage, checkout.image(name), arch) for name in dict.fromkeys(inputs.images.values())}
    numbered = {
        name: replace(spec, name=spec.name if name == inputs.base else f"{stage.name}/{name}")
        for name, spec in specs.items()
    }
    below = numbered.get(inputs.base)
    images = tuple((written, numbered[name]) for written, name in sorted(inputs.images.items()))
    recipe, key = make_recipe(
        Kind.CONTAINERFILE,
        containerfile=text,
        context=context.listing(),
        images=[[written, spec.key.hex] for written, spec in images],
        arch=arch,
        target=root.target,
        args=dict(root.args),
        network=root.network,
        **({"secrets": root.secrets} if root.secrets else {}),
        **project.stored,
    )
    work = BuildContainerfile(root=root, text=text, arch=arch, context=context, images=images, below=below)
    history = f"containerfile: {root.file}"
    own = make_spec(stage, "containerfile", Kind.CONTAINERFILE, recipe, key, work=work, history=history)
    return (below, own) if below else (own,)
