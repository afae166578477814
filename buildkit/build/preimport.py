"""Imports the lower layers of an image into local storage while the layers above are still being built.

Storage takes layers one after another, the lowest first, and keeps one core busy: so the import starts as soon as the
lowest are built. An early import is an image without a name, which has no use once the whole image is imported. If the
build fails before, the last one stays, and the next build need not import its layers again.
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

EARLY = "early-"
"""Begins the names of leases on images that failed builds kept, for a later build to remove; the id follows."""

MIN_IMPORT_BYTES = 192 << 20
"""Unpacked size from which layers get an import of their own, which takes a fifth of a second whatever it imports."""


class Preimport:
    """The early imports of one plan; a context manager that removes what has no use at its end."""

    def __init__(self, context: BuildContext, plan: Plan, *, enabled: bool) -> None:
        self._context = context
        self._stage = plan.composition.stage.name
        self._specs = plan.composition.specs
        self._depths = list(find_depths(plan.entries)) if enabled else []
        self._imported: list[str] = []
        self._reached = next((n for n, layer in enumerate(plan.entries) if layer.source is not LayerSource.STORAGE), 0)
        # an image id of its own, so that no other build removes the image
        title = (TITLE, f"{context.project.name}/{self._stage}")
        self._config = Config(labels=(title, ("buildkit.early", os.urandom(8).hex())))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from buildkit.tools import storage  # few builds import anything early

        leases, kept = self._context.blobs.leases, self._imported[-1:] if error else []
        for image in self._imported[: len(self._imported) - len(kept)]:
            storage.remove_image(image)
        if kept or error is None:  # what earlier builds kept has no use anymore
            leases.sweep(lambda names: [name for name in names if _remove_kept(name)])
        for image in kept:
            with leases.hold(f"{EARLY}{image}"):
                pass  # held by nobody from now on

    def tasks(self, building: Tasks) -> Iterator[tuple[TaskId, Task]]:
        """Yield the tasks that import early; ``building`` are the tasks that build layers."""
        before: tuple[TaskId, ...] = ()
        for depth, following in zip_longest(self._depths, self._depths[1:]):
            layers = (TaskId.of_key(TaskKind.LAYER, spec.key) for spec in self._specs[:depth])
            needs = (*(name for name in layers if name in building), *before)
            before = (TaskId(TaskKind.PREIMPORT, str(depth)),)
            yield before[0], self._task(depth, following, needs)

    def _task(self, depth: int, following: int | None, needs: tuple[TaskId, ...]) -> Task:
        def action() -> Outcome:
            arch = self._context.project.target.deb_arch
            image = assemble(self._specs[:depth], self._config, self._context.state.results, arch)
            self._imported.append(import_nameless(image, self._context.layers))
            self._reached = depth
            return Outcome()

        def needless() -> bool:
            soon = following is not None and self._has(self._specs[depth:following])
            return soon or self._size(self._specs[self._reached : depth]) < MIN_IMPORT_BYTES

        name = f"{self._stage}: {depth} of {len(self._specs)} layers"
        return Task(name=name, phase="import", lane=Lane.CONTAINER, action=action, needs=needs, is_needless=needless)

    def _size(self, specs: Sequence[Spec]) -> int:
        return sum(blob.unpacked for spec in specs for blob in self._context.state.results[spec.key].blobs)

    def _has(self, specs: Sequence[Spec]) -> bool:
        return all(self._context.state.is_here(spec.key) for spec in specs)


def _remove_kept(lease: str) -> bool:
    from buildkit.tools import storage

    return lease.startswith(EARLY) and storage.remove_image(lease.removeprefix(EARLY))


def find_depths(entries: Sequence[PlannedLayer]) -> Iterator[int]:
    """Yield how many layers, from the lowest, to import early: whenever enough bytes add up below a layer to build."""
    last = max(
        (n for n, entry in enumerate(entries) if entry.source in (LayerSource.BUILT, LayerSource.SHARED)), default=0
    )
    size = 0
    for depth, entry in enumerate(entries[:last], 1):
        if entry.source is not LayerSource.STORAGE:
            unknown = MIN_IMPORT_BYTES if entry.spec.kind in (Kind.ROOT, Kind.IMAGE, Kind.CONTAINERFILE) else 0
            size += entry.unpacked or unknown
        if size >= MIN_IMPORT_BYTES:
            yield depth
            size = 0
