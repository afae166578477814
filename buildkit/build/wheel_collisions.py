"""Finds wheels with different files at one path before layers are packed, where locking could not.

Most are found when they are locked. If nobody could look into a wheel then, nothing is packed before all are compared.
Compiled wheels are compared once they are there, while layers are packed. A build of other wheels does not open them
for that.

`CollisionCheck` decides about whole layers, bytecode included, once all of them are packed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from buildkit.build.collisions import wheels_collide
from buildkit.build.context import BuildContext
from buildkit.digest import Key
from buildkit.errors import WheelError
from buildkit.layers.path_prefixes import make_overlap_test, path_prefixes_of
from buildkit.layers.tar.contents import describe_difference
from buildkit.layers.tar.listing import describe_member
from buildkit.layers.tar.member import Member
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.pins import Artifact
from buildkit.plan.compose import Composition
from buildkit.plan.packing import project_of
from buildkit.plan.spec import Compile, PackWheels, Spec
from buildkit.tasks.scheduler import Lane, Outcome, Task, Tasks
from buildkit.tasks.task_id import TaskId, TaskKind

_WHEELS_AT_ONCE = 4


def wheel_comparison(context: BuildContext, composition: Composition, tasks: Tasks) -> dict[TaskId, Task]:
    """Return the task that compares the wheels of a composition.

    None if ``tasks`` packs no wheel for it that locking has not compared. If a wheel is unseen, the tasks that pack
    wheels wait for the comparison, and are returned, too.
    """
    found = ((spec, tasks.get(TaskId.of_key(TaskKind.LAYER, spec.key))) for spec in composition.layers)
    packing = [
        (spec, task) for spec, task in found if task and task.phase == "pack" and isinstance(spec.work, PackWheels)
    ]
    has_unseen = any(wheel.unseen for spec, _ in packing for wheel in _wheels_of(spec))
    if not has_unseen and not any(_compiled_in(spec) for spec, _ in packing):
        return {}
    wheels = (TaskKind.FETCH, TaskKind.COMPILE_WHEEL)
    needs = dict.fromkeys(need for _, task in packing for need in task.needs if need.kind in wheels)

    def action() -> Outcome:
        WheelCollisions(context, composition).check([spec for spec, _ in packing])
        return Outcome()

    name = f"paths of {composition.stage.name}"
    task = Task(
        name=name, phase="look", lane=Lane.CPU, action=action, needs=tuple(needs), quiet=True, decides=True
    )  # fmt: skip
    compared = TaskId(TaskKind.COMPARE, composition.key.hex)
    waiting = {
        TaskId.of_key(TaskKind.LAYER, spec.key): replace(packs, needs=(*packs.needs, compared))
        for spec, packs in packing
        if has_unseen
    }
    return {compared: task, **waiting}


def _wheels_of(spec: Spec) -> tuple[Artifact, ...]:
    """Return the wheels of a layer; none for a layer of another kind."""
    return spec.work.wheels if isinstance(spec.work, PackWheels) else ()


def _compiled_in(spec: Spec) -> tuple[Compile, ...]:
    return spec.work.compiled if isinstance(spec.work, PackWheels) else ()


@dataclass(frozen=True, slots=True)
class _Owner:
    """What has paths: a wheel that is packed, or a layer that was."""

    spec: Spec
    name: str
    wheel: Artifact | None = None


class WheelCollisions:
    """Compares the wheels of layers that are packed with each other and with layers that were built before."""

    def __init__(self, context: BuildContext, composition: Composition) -> None:
        self._context = context
        self._composition = composition
        self._owners: dict[str, _Owner] = {}  # no members: an image has hundreds of thousands
        self._compiled: dict[Artifact, Key] = {}
        self._read = lru_cache(maxsize=_WHEELS_AT_ONCE)(self._members)

    def check(self, packed: Sequence[Spec]) -> None:
        """Raise CollisionError for the first path of two wheels that differ, unless one of them is preferred."""
        for spec in packed:
            self._compiled |= {item.artifact: item.key for item in _compiled_in(spec)}
            for wheel in _wheels_of(spec):
                owner = _Owner(spec, f"{wheel.name} {wheel.version}", wheel)
                for path in self._read(wheel):
                    self._add(owner, path)
        for spec in self._meeting({spec.key for spec in packed}):
            owner = _Owner(spec, f"the layer {spec.name}")
            for path, content in self._context.ledger.layers.contents(spec.key) or ():
                if path in self._owners:
                    self._add(owner, path, content)

    def _members(self, wheel: Artifact) -> Mapping[str, Member]:
        """Return what a fetched or compiled wheel installs, by path; packing reports one that is malformed.

        Raises LostError for one that was damaged or is gone: whoever finds that removes it, and must say so.
        """
        from buildkit.layers.wheel.install import read_wheel  # only builds that pack a layer need it

        files, what, path = self._context.files, f"{wheel.name} {wheel.version}", None
        with suppress(WheelError):
            if wheel.is_wheel and wheel.sha256 is not None:
                path = files.get_file(what, wheel.sha256, wheel.file)
            elif wheel in self._compiled:
                path = files.get_wheel(what, self._compiled[wheel])
            if path is not None:
                with files.unchanged([path]):
                    return {member.path: member for member in read_wheel(path, self._context.project.target).members}
        return {}

    def _meeting(self, packed: set[Key]) -> Iterator[Spec]:
        """Yield the other layers of wheels whose path prefixes overlap those of the packed wheels."""
        others = [s for s in self._composition.layers if isinstance(s.work, PackWheels) and s.key not in packed]
        known: Mapping[Key, tuple[str, ...]] = self._context.ledger.layers.path_prefixes(s.key for s in others)
        overlaps = make_overlap_test(path_prefixes_of((path, "") for path in self._owners))
        yield from (spec for spec in others if spec.key in known and overlaps(known[spec.key]))

    def _add(self, owner: _Owner, path: str, content: str = "") -> None:
        first = self._owners.setdefault(path, owner)
        if first is owner or self._is_settled(first.spec, owner.spec):
            return
        with suppress(WheelError):
            before, now = self._describe(first, path), content or self._describe(owner, path)
            if before and now and before != now:  # what cannot be read has none
                what = f"/{path} is in {first.name} and in {owner.name}, and {describe_difference(before, now)}"
                raise wheels_collide(what, first.spec, owner.spec)

    def _describe(self, owner: _Owner, path: str) -> str:
        member = self._read(owner.wheel).get(path) if owner.wheel else None
        return describe_member(member) if member else ""

    def _is_settled(self, *layers: Spec) -> bool:
        return any(project_of(spec) in self._composition.prefer for spec in layers)
