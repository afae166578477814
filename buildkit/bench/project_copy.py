"""The race's own copy of a project, and the changes people make to one.

All inputs are local: wheels are in ``links``, and the root is an image in the race's registry."""

from __future__ import annotations

import hashlib
import random
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from buildkit.bench.lock_changes import add_pin, change_wheels, replace_pin
from buildkit.bench.synthetic_wheels import make_small_wheel, make_version, marker_file
from buildkit.build.copy_source import locate_source
from buildkit.declare.graph import Graph, load_graph
from buildkit.declare.project import Project, load_project
from buildkit.digest import FileHash
from buildkit.errors import BuildError
from buildkit.locks.freshness import find_release, render_release
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Artifact, Model, ModelFile
from buildkit.locks.wheels_lock import WheelsLock, parse_wheels_lock, wheels_lock_path

_LIGHT = 64_000  # bytes of a typical light wheel
_HEAVY = 24_000_000
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectChange:
    """The effect of a change on an image: files by SHA-256, removed paths, and our layers by kind."""

    files: tuple[tuple[str, str], ...] = ()
    gone: tuple[str, ...] = ()
    kinds: tuple[tuple[str, int], ...] = ()
    inputs: tuple[str, ...] = ()  # changed files or folders of the checkout


class ProjectCopy:
    """A project in ``folder`` of which ``stage`` is built. ``links`` holds every wheel it ever pins."""

    def __init__(self, folder: Path, stage: str, links: Path) -> None:
        self.folder = folder
        self.stage = stage
        self.links = links
        self.project: Project = load_project(folder)
        self.graph: Graph = load_graph(folder)
        self._originals = {artifact.name: artifact for _, artifact in self._pinned()}

    @property
    def site(self) -> str:
        """The site-packages folder, relative to the image's root."""
        return self.project.target.site_packages

    def locks(self) -> tuple[str, ...]:
        """Return the requirements locks of the image, in order."""
        parts = self.graph.resolve(self.stage).parts
        return tuple(dict.fromkeys(lock for part in parts for lock in part.wheels))

    def light(self) -> Artifact | None:
        """Return the typical light wheel: the one nearest to 64 kB."""
        return min(self._wheels(), key=lambda wheel: abs(wheel.size - _LIGHT), default=None)

    def heavy(self) -> Artifact | None:
        """Return the typical heavy wheel: the one nearest to 24 MB that has a layer of its own."""
        heavy = (wheel for wheel in self._wheels() if wheel.size >= self.project.heavy)
        return min(heavy, key=lambda wheel: abs(wheel.size - _HEAVY), default=None)

    def models(self) -> tuple[tuple[Model, ModelFile], ...]:
        """Return files of models in the project itself, largest first."""
        from buildkit.locks.models_lock import parse_models_lock

        files = []
        for part in self.graph.resolve(self.stage).parts:
            if part.models is not None:
                lock = parse_models_lock((self.folder / part.models.lock).read_text("utf-8"), part.models.lock)
                files += [(m, file) for m in lock.models if isinstance(m.source, RepoSource) for file in m.files]
        return tuple(sorted(files, key=lambda pair: (-pair[1].size, pair[1].source)))

    def whole(self) -> ProjectChange:
        """Return what an image must hold now: METADATA of every pinned wheel, models, the application."""
        files = [self._metadata(artifact) for artifact in self.artifacts() if artifact.is_wheel]
        for part in self.graph.resolve(self.stage).parts:
            for copy in part.copy:
                source = self.folder / locate_source(self.folder, part, copy.source)
                inside = copy.target.strip("/")
                paths = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
                files += [(str(Path(inside, path.relative_to(source))), _hash(path)) for path in paths]
        files += [(self._model_path(model, file), file.sha256.hex) for model, file in self.models()]
        return ProjectChange(files=tuple(files))

    def change_line(self, number: int) -> ProjectChange:
        """Append a line to a file of the application."""
        source, target, path = self._application()
        file_path = self.folder / source / path
        with file_path.open("a", encoding="utf-8") as file:
            file.write(f"# line {number} of the race\n")
        inside = f"{target.strip('/')}/{path}"
        return ProjectChange(files=((inside, _hash(file_path)),), kinds=(("files", 1),), inputs=(source,))

    def change_pin(self, artifact: Artifact, number: int) -> ProjectChange:
        """Pin another version of a wheel."""
        before = self._current(artifact.name)
        original = self._originals[artifact.name]
        wheel = make_version(self.links / original.file, original, number, self.links)
        lock = next(lock for lock, pinned in self._pinned() if pinned.name == artifact.name)
        self._repin(lock, wheel, replace_pin(self._text(lock), wheel))
        old = f"{before.file.split('-')[0]}-{before.version}.dist-info/METADATA"
        return ProjectChange(
            files=(self._marker(wheel),),
            gone=(f"{self.site}/{old}",),
            kinds=(("wheels", 1),),
            inputs=(lock,),
        )

    def add_wheel(self, number: int) -> ProjectChange:
        """Add a wheel of 64 kB."""
        wheel = make_small_wheel(f"bench-addition-{number}", "1.0", _LIGHT, self.links)
        lock = self.locks()[-1]
        self._repin(lock, wheel, add_pin(self._text(lock), wheel))
        return ProjectChange(
            files=(self._marker(wheel),),
            kinds=(("wheels", 1),),
            inputs=(lock,),
        )

    def change_model(self, number: int) -> ProjectChange:
        """Rewrite a model file: each of the large ones in turn, because the lowest layer costs most."""
        models = self.models()
        large = [pair for pair in models if 2 * pair[1].size >= models[0][1].size]
        model, file = large[number % len(large)]
        path = self.folder / file.source
        write_random(path, file.size, f"{file.source} {number}")
        self._relock_model(file, _hash(path))
        files = ((self._model_path(model, file), _hash(path)),)
        return ProjectChange(files=files, kinds=(("model", 1),), inputs=(file.source,))

    def set_root(self, ref: str) -> None:
        """Make the stage that has the root start from an image."""
        stage = self.graph.resolve(self.stage).chain[0]
        path = self.folder / stage.file
        lines = path.read_text("utf-8").splitlines()
        path.write_text("\n".join([*_without_root(lines), "", "[root]", f'image = "{ref}"', ""]), "utf-8")
        self.graph = load_graph(self.folder)
        for lock in self.locks():
            self._forget_release(lock)

    def _forget_release(self, lock: str) -> None:
        """Let a lock name no release of Python: that of an image is not known, and the one of the race is the same."""
        text = self._text(lock)
        if release := find_release(text):
            pinned = self._wheels_lock(lock).artifacts[0]
            self._repin(lock, pinned, text.replace(render_release(release), "", 1))

    def artifacts(self) -> tuple[Artifact, ...]:
        """Return everything the image's locks pin."""
        return tuple(artifact for _, artifact in self._pinned())

    def _wheels(self) -> list[Artifact]:
        """Return the wheels before any change, so that each repetition changes the same one."""
        return [artifact for artifact in self._originals.values() if artifact.is_wheel]

    def _pinned(self) -> list[tuple[str, Artifact]]:
        return [(lock, artifact) for lock in self.locks() for artifact in self._wheels_lock(lock).artifacts]

    def _current(self, name: str) -> Artifact:
        return next(artifact for _, artifact in self._pinned() if artifact.name == name)

    def _text(self, lock: str) -> str:
        return (self.folder / lock).read_text("utf-8")

    def _wheels_lock(self, lock: str) -> WheelsLock:
        path = wheels_lock_path(lock)
        return parse_wheels_lock((self.folder / path).read_text("utf-8"), path)

    def _repin(self, lock: str, artifact: Artifact, text: str) -> None:
        changed = change_wheels(self._wheels_lock(lock), text, artifact, self.project.target)
        (self.folder / lock).write_text(text, "utf-8")
        (self.folder / wheels_lock_path(lock)).write_text(changed, "utf-8")

    def _marker(self, wheel: Artifact) -> tuple[str, str]:
        return f"{self.site}/{marker_file(wheel.name)}", FileHash.of(f"{wheel.version}\n".encode()).hex

    def _metadata(self, wheel: Artifact) -> tuple[str, str]:
        with zipfile.ZipFile(self.links / wheel.file) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return f"{self.site}/{name}", FileHash.of(archive.read(name)).hex

    def _model_path(self, model: Model, file: ModelFile) -> str:
        target = next(part.models.target for part in self.graph.resolve(self.stage).parts if part.models)
        return f"{target.strip('/')}/{model.name}/{file.path}"

    def _relock_model(self, file: ModelFile, digits: str) -> None:
        for part in self.graph.resolve(self.stage).parts:
            if part.models is not None:
                path = self.folder / part.models.lock
                path.write_text(path.read_text("utf-8").replace(file.sha256.hex, digits), "utf-8")

    def _application(self) -> tuple[str, str, str]:
        """Return source and target of the image's topmost copied folder, and a text file in it."""
        for part in reversed(self.graph.resolve(self.stage).parts):
            for copy in part.copy:
                source = locate_source(self.folder, part, copy.source)
                names = sorted(path.name for path in (self.folder / source).glob("*") if path.is_file())
                for candidate in (
                    "main.py",
                    "main.sh",
                    *(name for name in names if name.endswith((".py", ".sh", ".txt"))),
                ):
                    if candidate in names:
                        return source, copy.target, candidate
        raise BuildError(f"stage `{self.stage}` copies no file of text that a line could be added to")


def write_random(path: Path, size: int, seed: str) -> None:
    """Write a file of random bytes. Equal seeds give equal bytes."""
    source = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, _PIECE):
            file.write(source.randbytes(min(_PIECE, size - start)))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, creating its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def only_root(lines: list[str]) -> list[str]:
    """Return the lines of a stage file in ``[root]`` and ``[[root.…]]``."""
    return [line for line, inside in _sections(lines) if inside]


def _without_root(lines: list[str]) -> list[str]:
    return [line for line, inside in _sections(lines) if not inside]


def _sections(lines: list[str]) -> list[tuple[str, bool]]:
    """Return each line, and whether it belongs to the root."""
    sections, inside = [], False
    for line in lines:
        if line.startswith("["):
            inside = line.strip("[] ").partition(".")[0] == "root"
        sections.append((line, inside))
    return sections


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
