"""Small projects on disk, composed through the real checkout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from projecttext import lay, render
from smallproject import File, Small
from tomlstyles import Style

from buildkit.build import disk_checkout as checkout
from buildkit.build import tree_listing
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.plan.compose import Composer, Composition
from buildkit.plan.spec import PackWheels, RunStep, Spec
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex
from buildkit.tools.git import WorkTreeFiles

PLAIN = Style(0, plain=True)


def compose_all(folder: Path, ledger: Ledger) -> dict[str, Composition]:
    """Every stage of the project in ``folder``."""
    project, graph = load_project(folder), load_graph(folder)
    answers = checkout.DiskCheckout(project, graph, StatIndex(ledger), lambda _event: None)
    composer = Composer(project, graph, answers)
    return {name: composer.compose(name) for name in graph.stages}


class Disk:
    """A folder that holds one project after the other; what two of them have in common is left as it is.

    It is no git repository, because asking git takes most of the time: every file counts as tracked.
    """

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder = folder
        self._ledger = ledger
        self._there: dict[str, File] = {}
        self._composed: dict[str, Seen] = {}

    def compose(self, small: Small, style: Style = PLAIN) -> Seen:
        """Lay the project out and compose it."""
        self.lay(small, style)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tree_listing, "list_files", list_all)
            return Seen(compose_all(self.folder, self._ledger))

    def remember(self, small: Small) -> Seen:
        """Return what the project composes to; one that was composed already is not laid out for it again.

        Hypothesis tries the same projects with every parameter of a test.
        """
        told = repr(small)
        if told not in self._composed:
            self._composed[told] = self.compose(small)
        return self._composed[told]

    def lay(self, small: Small, style: Style = PLAIN) -> None:
        """Lay the project out."""
        files = render(small, style)
        for name, file in self._there.items():
            if files.get(name) != file:
                (self.folder / name).unlink()
        lay(self.folder, {name: file for name, file in files.items() if self._there.get(name) != file})
        self._there = files


def list_all(folder: Path, path: str) -> WorkTreeFiles:
    """In git's place: every file below ``path`` is tracked."""
    if (folder / path).is_file():
        return WorkTreeFiles(tracked=(path,), untracked=())
    names = [Path(parent) / name for parent, _, files in os.walk(folder / path) for name in files]
    return WorkTreeFiles(tracked=tuple(sorted(str(name.relative_to(folder)) for name in names)), untracked=())


@dataclass
class Seen:
    """What the stages of a project came to."""

    stages: dict[str, Composition]

    @cached_property
    def specs(self) -> dict[str, Spec]:
        """Every layer by name; no name means two layers."""
        found: dict[str, Spec] = {}
        for composition in self.stages.values():
            names = [spec.name for spec in composition.specs]
            assert len(set(names)) == len(names), f"two layers of {composition.stage.name} have one name: {names}"
            assert len({spec.key for spec in composition.specs}) == len(names)
            for spec in composition.specs:
                assert found.setdefault(spec.name, spec).key == spec.key
        return found

    @cached_property
    def keys(self) -> dict[str, str]:
        """The key of every layer, and of every wheel that is compiled (``compile NAME``)."""
        compiled = {
            f"compile {item.artifact.name}": item.key.hex
            for spec in self.specs.values()
            if isinstance(spec.work, PackWheels)
            for item in spec.work.compiled
        }
        return {name: spec.key.hex for name, spec in self.specs.items()} | compiled

    @cached_property
    def images(self) -> dict[str, object]:
        """Return the ordered layers of every image, with all their visible fields, and its config."""
        return {
            name: ([(s.name, s.recipe, s.history, s.weight, s.rate) for s in composition.specs], composition.config)
            for name, composition in self.stages.items()
        }

    def where(self, holds: Callable[[Spec], bool]) -> set[str]:
        """Names of the layers that fit."""
        return {name for name, spec in self.specs.items() if holds(spec)}

    def wheels(self) -> set[str]:
        """Layers of wheels."""
        return self.where(lambda spec: isinstance(spec.work, PackWheels))

    def holding(self, wheel: str) -> set[str]:
        """Layers that hold a wheel, and what it is compiled by."""
        layers = self.where(lambda s: isinstance(s.work, PackWheels) and wheel in [w.name for w in s.work.wheels])
        return layers | ({f"compile {wheel}"} & self.keys.keys())

    def spread(self, changed: Iterable[str], *, compilers: bool) -> set[str]:
        """All that depends on ``changed``: steps on their roots, wheels on what compiles them.

        ``compilers``: bytecode depends on the whole of `base`, because it is not known by Debian's packages.
        """
        found = set(changed)
        builder = {spec.name for spec in self.stages["builder"].specs}
        base = {spec.name for spec in self.stages["base"].root}
        while True:
            before = len(found)
            for name, spec in self.specs.items():
                work = spec.work
                if isinstance(work, RunStep) and found & {below.name for below in work.chain}:
                    found.add(name)
                if isinstance(work, PackWheels):
                    if compilers and found & base:
                        found.add(name)
                    compiled = {f"compile {item.artifact.name}" for item in work.compiled}
                    found |= compiled if found & builder else set()
                    found |= {name} if found & compiled else set()
            if len(found) == before:
                return found


def differing(before: Seen, after: Seen) -> set[str]:
    """Names of layers whose keys differ, or that only one of both has."""
    names = before.keys.keys() | after.keys.keys()
    return {name for name in names if before.keys.get(name) != after.keys.get(name)}
