"""What peers build from: the expert's Containerfile for a checkout as it is, and what it reads."""

from __future__ import annotations

from buildkit.bench.baseline import render_containerfile, write_containerfile, write_models
from buildkit.bench.project_copy import ProjectCopy
from buildkit.build.planner import open_planner
from buildkit.events import ignore_event


def write_context(checkout: ProjectCopy) -> tuple[str, ...]:
    """Write it into the checkout; returns the files of it, beside the Containerfile, that changed.

    Raises DefinitionError for a stage that has what the race does not know.
    """
    with open_planner(checkout.folder, ignore_event) as planner:
        composition = planner.composer.compose(checkout.stage)
    write_models(composition, checkout.folder, checkout.links)
    project, root = checkout.project, composition.root[0].work
    containerfile = render_containerfile(
        composition, getattr(root, "ref", ""), project.heavy, project.target.interpreter, project.target.prefix
    )
    return write_containerfile(containerfile, checkout.folder, checkout.links)
