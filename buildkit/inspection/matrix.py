"""Find the stages that need work, in waves, for the matrices of a CI system. Builds nothing.

A stage needs work if a layer of its image must be built that no stage below it will have built. Waves are an
optimization, not a condition: a job takes from the remote cache what earlier jobs built, and builds the rest.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit.build.planner import Planner
from buildkit.digest import Key
from buildkit.inspection.graph import arrange
from buildkit.plan.compose import Composition
from buildkit.plan.spec import PackWheels, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """``images`` are the requested stages; ``waves`` hold the stages that need work, each in one wave."""

    waves: tuple[tuple[str, ...], ...]
    images: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return ``{"waves": [MATRIX, …], "images": MATRIX}``; a MATRIX is ``{"include": [{"stage": NAME}, …]}``."""
        return {"waves": [_include(wave) for wave in self.waves], "images": _include(self.images)}

    def as_gitlab(self) -> str:
        """Return a child pipeline as YAML; definitions of ``.image-build`` and ``.image-test`` must precede it."""
        jobs = [(f"build-{number}", ".image-build", wave) for number, wave in enumerate(self.waves, 1)]
        jobs.append(("test", ".image-test", self.images))
        lines = [f"stages: {json.dumps([name for name, _, _ in jobs])}"]
        for name, template, stages in jobs:
            parallel = {"matrix": [{"STAGE": list(stages)}]}
            lines.append(f"{name}: {json.dumps({'extends': template, 'stage': name, 'parallel': parallel})}")
        return "\n".join(lines) + "\n"


def _include(stages: Iterable[str]) -> dict[str, Any]:
    return {"include": [{"stage": name} for name in stages]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The layers that each stage has to build, and the stages that it should wait for."""

    layers: Mapping[str, Sequence[str]]
    needs: Mapping[str, Collection[str]]


def find_work(planner: Planner, images: Iterable[str], *, only_shared: bool = False) -> Work:
    """Return what must be built for the images of stages; raises DefinitionError.

    With ``only_shared``, layers that only this machine has do not count: other machines will do the work.
    """
    requested, graph = list(images), planner.graph
    finder = _Finder(planner, only_shared=only_shared)
    for name in requested:
        finder.require(name, planner.composer.compose(name).specs)
    owners: dict[Key, str] = {}
    for name in arrange(graph, {*requested, *finder.helpers}):
        for spec in planner.composer.compose(name).specs:
            if spec.key in finder.missing:
                owners.setdefault(spec.key, name)
    layers: dict[str, list[str]] = {}
    needs: dict[str, set[str]] = {}
    for key, name in owners.items():
        layers.setdefault(name, []).append(finder.missing[key].name)
        below = needs.setdefault(name, set(arrange(graph, [name])))
        for helper in finder.tools.get(key, ()):
            chain = arrange(graph, [helper])
            if name not in chain:  # else it is built together with what it serves to build
                below.update(chain)
    return Work(layers=layers, needs={name: (below & layers.keys()) - {name} for name, below in needs.items()})


class _Finder:
    """Collects missing layers, and the missing layers needed to build them."""

    def __init__(self, planner: Planner, *, only_shared: bool) -> None:
        self._planner = planner
        self._only_shared = only_shared
        self.missing: dict[Key, Spec] = {}
        self.tools: dict[Key, list[str]] = {}  # stages by the layers that are built with them
        self.helpers: set[str] = set()

    def require(self, stage: str, specs: Iterable[Spec]) -> None:
        """Record the layers of ``specs`` that are missing, and those needed to build them."""
        for spec in self._find_missing(stage, list(specs)):
            if spec.key in self.missing:
                continue
            self.missing[spec.key] = spec
            for helper, needed in self._find_tools(spec):
                self.helpers.add(helper)
                self.tools.setdefault(spec.key, []).append(helper)
                self.require(helper, needed)

    def _find_missing(self, stage: str, specs: Sequence[Spec]) -> list[Spec]:
        planner, keys = self._planner, [spec.key for spec in specs]
        cached = {} if self._only_shared else planner.lookup(keys)
        shared = planner.context.remote_cache.find_records(stage, [key for key in keys if key not in cached])
        return [spec for spec in specs if spec.key not in cached and spec.key not in shared]

    def _find_tools(self, spec: Spec) -> Iterator[tuple[str, Iterable[Spec]]]:
        planner, project, work = self._planner, self._planner.context.project, spec.work
        if not isinstance(work, PackWheels):
            return
        if project.bytecode:
            yield project.bytecode_root, planner.composer.compiler
        if any(self._only_shared or planner.context.files.find_wheel(item.key) is None for item in work.compiled):
            builder: Composition = planner.composer.builder
            yield project.builder, builder.specs


def arrange_waves(
    needs: Mapping[str, Collection[str]], *, most: int = 0, keep: Collection[str] = ()
) -> tuple[tuple[str, ...], ...]:
    """Put every stage into the first wave after those that it needs, in at most ``most`` waves (0: any number).

    The last wave holds all stages that are left, except those that another of them needs and therefore builds, too;
    stages in ``keep`` stay in any case.
    """
    levels: dict[str, int] = {}

    def visit(name: str, above: frozenset[str]) -> int:
        if name not in levels:
            waits = [visit(below, above | {name}) for below in sorted(needs[name]) if below not in above]
            levels[name] = 1 + max(waits, default=0)
        return levels[name]

    for name in sorted(needs):
        visit(name, frozenset({name}))
    deepest = max(levels.values(), default=0)
    count = min(deepest, most) if most else deepest
    waves = [sorted(name for name, level in levels.items() if level == number) for number in range(1, count)]
    last = {name for name, level in levels.items() if level >= count}
    inner = {below for name in last for below in needs[name]}.difference(keep)
    return tuple(map(tuple, [*waves, sorted(last - inner)] if last else waves))
