"""The builder as a place for build backends of packages whose metadata they must compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from buildkit.build.builder_advice import advise_builder
from buildkit.declare.graph import Graph
from buildkit.declare.project import Project
from buildkit.errors import BuildError, ToolError
from buildkit.events import Emit, Note
from buildkit.resolve.all_locks import lock_all
from buildkit.resolve.package_metadata import label_of, parse_report
from buildkit.resolve.project_locks import make_request
from buildkit.tools.resolver import Describe, ProjectMetadata

_SOURCE = "/media"  # a folder that every root has; the pipes are at /mnt
_PIP = """import os, shutil, sys
tree, out, requests = sys.argv[1:]
os.dup2(os.open(out, os.O_WRONLY), 1)
os.open(requests, os.O_RDONLY)
source = shutil.copytree(tree, "/tmp/buildkit/source", symlinks=True)
pip = (sys.executable, "-I", "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-")
how = ("--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", "--no-cache-dir")
os.execv(sys.executable, (*pip, *how, "--disable-pip-version-check", source))
"""


@contextmanager
def open_builder(project: Project, graph: Graph, emit: Emit, *, allowed: bool) -> Iterator[Describe | None]:
    """Give a function that asks build backends in the builder, or None for a project without one.

    When it is called first, it makes the builder's locks and the builder itself. ``allowed`` says whether build
    backends of the builder's own packages may run on this host.
    """
    if project.builder not in graph.stages:
        yield None
        return
    with ExitStack() as stack:
        started: list[Describe] = []

        def describe(tree: Path) -> ProjectMetadata:
            if not started:
                _lock_builder(project, graph, emit, allowed=allowed)
                started.append(stack.enter_context(_start_builder(project, emit)))
            return started[0](tree)

        yield describe


def _lock_builder(project: Project, graph: Graph, emit: Emit, *, allowed: bool) -> None:
    """Write the locks of the builder that are missing or stale, before those of the stages that need it."""
    request = replace(make_request(project, graph, only=project.builder), host_builds=allowed)
    for change in lock_all(request, emit):
        emit(Note(text=f"{change.file}: {', '.join(change.details) or 'made'}"))


@contextmanager
def _start_builder(project: Project, emit: Emit) -> Iterator[Describe]:
    """Build the builder, and give a function that runs pip in a container of it for each package."""
    from buildkit.build.options import BuildOptions
    from buildkit.build.planner import open_planner
    from buildkit.build.stage_build import StageBuild
    from buildkit.tools import buildah

    with open_planner(project.folder, emit) as planner:
        StageBuild(planner, BuildOptions(), (), None).run(project.builder)
        isolation = buildah.find_isolation(planner.context.blobs.leases.hold)
        emit(Note(text=f"build backends run in {project.builder} with {isolation}", warning=not isolation.is_private))

        def describe(tree: Path) -> ProjectMetadata:
            image, blobs = project.ref(project.builder), planner.context.blobs
            argv = (f"{project.target.prefix}/bin/python", "-I", "-c", _PIP, _SOURCE, *buildah.PIPES)
            env = {"HOME": "/tmp", "PYTHONHASHSEED": "0"}  # noqa: S108 - in the container
            label = label_of(tree, project.folder)
            with buildah.working_container(image, blobs.leases.hold) as container, blobs.working_folder() as folder:
                try:
                    mounts = ((tree, _SOURCE),)
                    with buildah.open_stream(container, argv, folder, env=env, mounts=mounts) as (_, report):
                        data = report.read()
                except ToolError as error:
                    raise BuildError(
                        f"{label}: its metadata could not be computed in {project.builder}",
                        hint=error.hint or advise_builder(error.output),
                        output=error.output,
                    ) from error
            return parse_report(data, label)

        yield describe
