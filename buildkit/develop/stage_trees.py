"""The staged folders of one stage: shared by all services that run it."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.planner import Planner
from buildkit.develop.staged_tree import StagedTree
from buildkit.develop.staging import Staging, plan_staging
from buildkit.layers.tar.contents import FOLDER
from buildkit.plan.spec import Kind, PackFiles, PackWheels


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """What is known of a stage's image from its definition: staging, command, and whether it has a debugger.

    ``python`` is the interpreter that its wheels are for. ``sources`` are folders of the
    project with those of the image that they are copied to; ``packages`` are names of wheels.
    """

    staging: Staging
    command: tuple[str, ...]
    python: str
    entrypoint: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    packages: frozenset[str] = frozenset()


def describe_stage(planner: Planner, stage: str) -> StageFacts:
    """Return the facts of a stage as it is defined now. Raises DefinitionError."""
    composition = planner.composer.compose(stage)
    config, project = composition.config, planner.context.project
    command = (*config.entrypoint, *config.cmd)
    has_prefix = any(spec.kind is Kind.PREFIX for spec in composition.specs)
    copies = [spec.work for spec in composition.layers if isinstance(spec.work, PackFiles)]
    works = [spec.work for spec in composition.specs if isinstance(spec.work, PackWheels)]
    return StageFacts(
        staging=plan_staging(composition, lambda folder: _is_occupied(planner, stage, folder)),
        command=command,
        python=f"{project.target.prefix}/bin/python" if has_prefix else project.target.interpreter,
        entrypoint=config.entrypoint,
        sources=tuple((work.tree.path, work.copy.target) for work in copies),
        packages=frozenset(wheel.name for work in works for wheel in work.wheels),
    )


def _is_occupied(planner: Planner, stage: str, folder: str) -> bool:
    """Return whether a layer that is no copy has something in a folder of the image; only built layers are known."""
    below = f"{folder.strip('/')}/"
    keys = (spec.key for spec in planner.composer.compose(stage).specs if spec.kind is not Kind.FILES)
    listings = filter(None, (planner.context.ledger.layers.contents(key) for key in keys))
    return any(path.startswith(below) for listing in listings for path, content in listing if content != FOLDER)


class StageTrees:
    """Keeps the staged folders of a stage on disk below ``home``; threads may share it."""

    def __init__(self, project: Path, home: Path, staging: Staging) -> None:
        self._lock = threading.Lock()
        self._trees = {
            folder.target: StagedTree(project, home / str(number)) for number, folder in enumerate(staging.folders)
        }
        self.base = staging.base  # of the image that runs
        self.update(staging)

    @property
    def mounts(self) -> tuple[tuple[str, str], ...]:
        """Folders of the host, and where they lie in the container."""
        return tuple((str(tree.folder), target) for target, tree in self._trees.items())

    def update(self, staging: Staging) -> tuple[str, ...]:
        """Show what a definition says now; return the paths that changed, in the container. Raises BuildError.

        Folders that are new are in the base, which asks for a new container.
        """
        with self._lock:
            return tuple(
                posixpath.join(folder.target, path)
                for folder in staging.folders
                if folder.target in self._trees
                for path in self._trees[folder.target].update(folder.files)
            )

    def refresh(self, sources: Collection[str]) -> tuple[str, ...] | None:
        """Show present contents of files of the project; return the paths that changed in the container.

        None if only ``update`` knows what to do: a file is new, gone, or of another kind.
        """
        with self._lock:
            changed: list[str] = []
            for target, tree in self._trees.items():
                own = [source for source in sources if tree.has(source)]
                refreshed = tree.refresh(own)
                if refreshed is None:
                    return None
                changed += [posixpath.join(target, path) for path in refreshed]
            return tuple(changed)

    def knows(self, source: str) -> bool:
        """Return whether a path of the project is a plain file in one of the folders."""
        return any(tree.has(source) for tree in self._trees.values())

    def sources(self) -> tuple[str, ...]:
        """Return the project's paths of all plain files."""
        return tuple(source for tree in self._trees.values() for source in tree.sources())

    def find_source(self, path: str) -> str:
        """Return the project's path of a file in the container; the path itself if it is not staged."""
        for target, tree in self._trees.items():
            if path.startswith(f"{target}/") and (source := tree.find_source(posixpath.relpath(path, target))):
                return source
        return path
