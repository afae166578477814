"""The request of the face: what a project locks, by its stages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.options import Parser
from buildkit.declare.graph import Graph, load_graph
from buildkit.declare.project import Project, load_project
from buildkit.errors import BuildError, DefinitionError
from buildkit.locks.apt_lists import find_apt_lists
from buildkit.locks.models_lock import models_source_path
from buildkit.report.view import open_view
from buildkit.resolve.all_locks import lock_all
from buildkit.resolve.request import AptInput, Change, LockRequest, input_of


def lock(folder: Path, arguments: Sequence[str]) -> None:
    """Make or refresh every lock; raises DefinitionError, or BuildError where ``--check`` finds something."""
    options = _parse(arguments)
    project = load_project(folder)
    request = make_request(project, load_graph(folder))
    with open_view(sys.stderr) as emit:
        changes = lock_all(request, upgrade=options.upgrade, check=options.check, emit=emit)
    if options.check and changes:
        lines = "\n".join(f"  - {change.file}: {', '.join(change.details)}" for change in changes)
        raise BuildError(f"locks to refresh:\n{lines}", hint="run: nox -s lock")
    sys.stderr.write(_summary(changes))


def make_request(project: Project, graph: Graph) -> LockRequest:
    """What the stages of a project need locked; requirements that meet in an image form a group."""
    groups = []
    for name in graph.stages:
        locks = [lock for part in graph.resolve(name).parts for lock in part.wheels]
        groups.append(tuple(input_of(lock) for lock in dict.fromkeys(locks) if _has_input(project, lock)))
    models = [stage.models.lock for stage in graph.stages.values() if stage.models]
    return LockRequest(
        root=project.folder,
        target=project.target,
        locker=project.locker,
        groups=tuple(dict.fromkeys(group for group in groups if group)),
        apt=tuple(
            AptInput(
                file=entry.file,
                suite=entry.suite,
                variant=entry.variant,
                components=entry.components,
                base=entry.base,
            )
            for entry in find_apt_lists(graph)
        ),
        models=tuple(models_source_path(lock) for lock in dict.fromkeys(models)),
    )


def _has_input(project: Project, lock: str) -> bool:
    if (project.folder / input_of(lock)).is_file():
        return True
    raise DefinitionError(
        f"{lock}: there is no {input_of(lock)} to make it from", hint="list what the stage needs there"
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="nox -s lock --")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that the inputs allow")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a lock is missing or stale")
    return parser.parse_args(list(arguments))


def _summary(changes: Sequence[Change]) -> str:
    if not changes:
        return "locks: nothing changed\n"
    return "".join(f"{change.file}: {', '.join(change.details) or 'made'}\n" for change in changes)
