"""The lower layers of an image into local storage, while those above them are still made.

Storage takes layers one after another, the lowest first, and keeps one core busy with it: so it begins as soon as
the lowest are there. What is imported early is an image without a name, and without use once the whole image is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from types import TracebackType
from typing import Self

from buildkit.build.assemble import assemble
from buildkit.build.context import BuildContext
from buildkit.build.deliver import import_nameless
from buildkit.declare.stage import Config
from buildkit.oci.image import TITLE
from buildkit.plan.plan import LayerSource, Plan, PlannedLayer
from buildkit.plan.spec import Kind, Spec
from buildkit.tasks.scheduler import Lane, Outcome, Task, Tasks
from buildkit.tasks.task_id import TaskId, TaskKind

WORTH = 192 << 20
"""Bytes unpacked that are worth an import of their own, which takes a fifth of a second whatever it imports."""


class Preimport:
    """Early imports for one plan; a context manager, for what they brought has no use afterwards."""

    def __init__(self, context: BuildContext, plan: Plan, *, wanted: bool) -> None:
        self._context = context
        self._stage = plan.composition.stage.name
        self._specs = plan.composition.specs
        self._depths = list(find_depths(plan.entries)) if wanted else []
        self._brought: list[str] = []
        self._reached = next((n for n, one in enumerate(plan.entries) if one.source is not LayerSource.STORAGE), 0)
        # an id of its own, so that no other build takes away what this one stands on
        title = (TITLE, f"{context.project.name}/{self._stage}")
        self._config = Config(labels=(title, ("buildkit.early", os.urandom(8).hex())))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from buildkit.tools import storage  # most builds import nothing early

        while self._brought:
            storage.remove_image(self._brought.pop())

    def tasks(self, making: Tasks) -> Iterator[tuple[TaskId, Task]]:
        """What to do besides ``making``, the tasks by which layers come to be."""
        before: tuple[TaskId, ...] = ()
        for depth, following in zip_longest(self._depths, self._depths[1:]):
            layers = (TaskId.of_key(TaskKind.LAYER, spec.key) for spec in self._specs[:depth])
            needs = (*(name for name in layers if name in making), *before)
            before = (TaskId(TaskKind.PREIMPORT, str(depth)),)
            yield before[0], self._task(depth, following, needs)

    def _task(self, depth: int, following: int | None, needs: tuple[TaskId, ...]) -> Task:
        def action() -> Outcome:
            arch = self._context.project.target.deb_arch
            image = assemble(self._specs[:depth], self._config, self._context.state.results, arch)
            self._brought.append(import_nameless(image, self._context.blobs))
            self._reached = depth
            return Outcome()

        def needless() -> bool:
            soon = following is not None and self._has(self._specs[depth:following])
            return soon or self._size(self._specs[self._reached : depth]) < WORTH

        name = f"{self._stage}: {depth} of {len(self._specs)} layers"
        return Task(name=name, phase="import", lane=Lane.CONTAINER, action=action, needs=needs, is_needless=needless)

    def _size(self, specs: Sequence[Spec]) -> int:
        return sum(blob.unpacked for spec in specs for blob in self._context.state.results[spec.key].blobs)

    def _has(self, specs: Sequence[Spec]) -> bool:
        return all(
            self._context.state.is_known(spec.key) and not self._context.state.is_only_remote(spec.key)
            for spec in specs
        )


def find_depths(entries: Sequence[PlannedLayer]) -> Iterator[int]:
    """How many layers, from the lowest, to import early: each time they are worth it, and some above are to be made."""
    last = max(
        (n for n, entry in enumerate(entries) if entry.source in (LayerSource.BUILT, LayerSource.SHARED)), default=0
    )
    size = 0
    for depth, entry in enumerate(entries[:last], 1):
        if entry.source is not LayerSource.STORAGE:
            unknown = WORTH if entry.spec.kind in (Kind.ROOT, Kind.IMAGE) else 0
            size += entry.unpacked or unknown
        if size >= WORTH:
            yield depth
            size = 0
