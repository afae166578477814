"""Find wheels of one image with different files at one path, before a lock is written.

A wheel that nobody could look into is marked in its lock: a build packs nothing of the image before all are fetched.
Compiled wheels do not exist yet; a build compares them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from buildkit.build.collisions import explain_meeting
from buildkit.declare.schema import suggest_word
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Emit, Note, step
from buildkit.layers.tar.contents import describe_difference
from buildkit.locks.freshness import find_release
from buildkit.locks.pins import Artifact
from buildkit.locks.wheels_lock import parse_wheels_lock, render_wheels_lock, wheels_lock_path
from buildkit.resolve.request import ImageWheels, LockDrafts
from buildkit.resolve.wheel_contents import WheelContents
from buildkit.worker_pool import WorkerPool

_CONCURRENT = 16  # wheels read at the same time, most of them over the network
_SHOWN = 4  # names in a warning


def check_meetings(
    images: Sequence[ImageWheels], drafts: LockDrafts, contents: WheelContents, emit: Emit, *, arch: str = ""
) -> None:
    """Raise DefinitionError with every two wheels that meet in an image whose locks change; mark the unseen ones.

    ``arch`` is the `Target.lock_arch` of the wheels locks that are looked into.
    """
    changed = set(drafts.changed())
    todo = [image for image in images if any(wheels_lock_path(lock, arch) in changed for lock in image.files)]
    wheels = {image.stage: _wheels_of(image, drafts, arch) for image in todo}
    unique = {wheel.sha256: wheel for found in wheels.values() for wheel, _ in found}
    if not unique:
        return
    with step(emit, f"look into {len(unique)} wheels", "lock"), WorkerPool(_CONCURRENT) as pool:
        read = zip(unique.values(), pool.map(contents.find, unique.values()), strict=True)
        unseen = [wheel for wheel, known in read if known is None]
    meetings: dict[tuple[Artifact, Artifact], Problem] = {}
    for image in todo:
        owners = {wheel.name: file for wheel, file in wheels[image.stage]}
        found = _Comparison(image, owners, contents).find([wheel for wheel, _ in wheels[image.stage]])
        meetings = {**found, **meetings}
    if meetings:
        raise DefinitionError.of(list(meetings.values()))
    _mark(_sidecars(todo, arch), drafts, {wheel.sha256 for wheel in unseen})
    if unseen:
        names = ", ".join(wheel.name for wheel in unseen[:_SHOWN])
        more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
        text = f"{names}{more}: only the whole file tells whether its files meet those of other wheels"
        emit(Note(text=f"{text}, so a build fetches all before it packs any", warning=True))


def _sidecars(images: Sequence[ImageWheels], arch: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(wheels_lock_path(lock, arch) for image in images for lock in image.files))


def _wheels_of(image: ImageWheels, drafts: LockDrafts, arch: str) -> list[tuple[Artifact, str]]:
    """Return the wheels of an image, sorted by name, each with the stage file whose lock has it."""
    artifacts = {
        artifact.name: (artifact, file)
        for lock, file in image.files.items()
        if (text := drafts.read(wheels_lock_path(lock, arch))) is not None
        for artifact in parse_wheels_lock(text, wheels_lock_path(lock, arch)).artifacts
    }
    return [artifacts[name] for name in sorted(artifacts) if artifacts[name][0].is_wheel]


def _mark(files: Sequence[str], drafts: LockDrafts, unseen: set[FileHash | None]) -> None:
    """Write into the wheels locks ``files`` which of their wheels were not seen."""
    for file in files:
        if (text := drafts.read(file)) is None:
            continue
        parsed = parse_wheels_lock(text, file)
        marked = tuple(replace(one, unseen=one.is_wheel and one.sha256 in unseen) for one in parsed.artifacts)
        if marked != parsed.artifacts:
            drafts.decide(file, render_wheels_lock(replace(parsed, artifacts=marked), find_release(text)))


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Compares the wheels of one image."""

    image: ImageWheels
    owners: Mapping[str, str]  # the stage files whose locks have the projects
    contents: WheelContents

    def find(self, wheels: Sequence[Artifact]) -> dict[tuple[Artifact, Artifact], Problem]:
        """Return the problem of every two wheels that meet."""
        owners: dict[str, Artifact] = {}
        met: dict[tuple[Artifact, Artifact], list[str]] = {}
        for wheel in wheels:
            for path in self.contents.find(wheel) or ():
                first = owners.setdefault(path, wheel)
                if first is not wheel and not self._is_settled(first, wheel) and self._differ(first, wheel, path):
                    met.setdefault((first, wheel), []).append(path)
        folders = {pair: self._folder_problem(pair, path) for pair, path in _find_folders(owners)}
        return folders | {pair: self._problem(pair, paths) for pair, paths in met.items()}

    def _is_settled(self, *wheels: Artifact) -> bool:
        return any(wheel.name in self.image.prefer for wheel in wheels)

    def _differ(self, first: Artifact, second: Artifact, path: str) -> bool:
        known = [self._at(wheel, path) for wheel in (first, second)]
        if not all(known) or known[0] == known[1]:
            return False  # what RECORD does not say is found when the bytes are here
        described = [self.contents.describe(wheel, path) for wheel in (first, second) if path.endswith("/__init__.py")]
        return not described or described[0] != described[1]

    def _at(self, wheel: Artifact, path: str) -> str:
        found: Mapping[str, str] = self.contents.find(wheel) or {}
        return found.get(path, "")

    def _problem(self, pair: tuple[Artifact, Artifact], paths: Sequence[str]) -> Problem:
        first, second = pair
        how = describe_difference(self._at(first, paths[0]), self._at(second, paths[0]))
        others = len(paths) - 1
        more = f", as {'are' if others > 1 else 'is'} {others} more" if others else ""
        what = f"/{paths[0]} is in {_label(first)} and in {_label(second)}{more}, and {how}"
        what, hint = explain_meeting(what, self._files(pair), (first.name, second.name))
        for name in self.image.prefer:
            if name not in self.owners and (near := suggest_word(name, [first.name, second.name])):
                hint = f"`prefer` has `{name}`, which no wheel is; {near}"
        return Problem(file=self._files(pair)[0], key="wheels.prefer", what=what, hint=hint)

    def _folder_problem(self, pair: tuple[Artifact, Artifact], path: str) -> Problem:
        what = f"/{path} is a file in {_label(pair[0])} and a folder in {_label(pair[1])}"
        return Problem(file=self._files(pair)[0], key="wheels.locks", what=what, hint="exclude one of the two packages")

    def _files(self, pair: tuple[Artifact, Artifact]) -> list[str]:
        """Return the stage files whose locks have the two wheels."""
        return list(dict.fromkeys(self.owners[wheel.name] for wheel in pair))


def _label(wheel: Artifact) -> str:
    return f"{wheel.name} {wheel.version}"


def _find_folders(owners: Mapping[str, Artifact]) -> Iterator[tuple[tuple[Artifact, Artifact], str]]:
    """Yield owners of a file and of a folder at one path."""
    seen: set[str] = set()
    for path, wheel in owners.items():
        folder = path.rpartition("/")[0]
        while folder and folder not in seen:
            seen.add(folder)
            if folder in owners:
                yield (owners[folder], wheel), folder
            folder = folder.rpartition("/")[0]
