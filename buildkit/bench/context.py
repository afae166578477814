"""The build context of peers: the baseline Containerfile for the current checkout, and its inputs."""

from __future__ import annotations

from buildkit.bench.baseline import render_containerfile, write_containerfile, write_models
from buildkit.bench.project_copy import ProjectCopy
from buildkit.build.planner import open_planner
from buildkit.events import ignore_event


def write_context(checkout: ProjectCopy) -> tuple[str, ...]:
    """Write the build context into the checkout, and return the changed files apart from the Containerfile.

    Raises DefinitionError for a stage that uses what a race does not support.
    """
    with open_planner(checkout.folder, ignore_event) as planner:
        composition = planner.composer.compose(checkout.stage)
    write_models(composition, checkout.folder, checkout.links)
    project, root = checkout.project, composition.root[0].work
    containerfile = render_containerfile(
        composition, getattr(root, "ref", ""), project.heavy, project.target.interpreter, project.target.prefix
    )
    return write_containerfile(containerfile, checkout.folder, checkout.links)
