"""A checkout on disk: reads locks, lists and hashes files, and finds what is stale. Uses no network."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

from buildkit.build.copy_source import locate_source
from buildkit.build.options import ModelChanges
from buildkit.build.source_tree import SourceTrees
from buildkit.build.tree_listing import TreeListing
from buildkit.declare.containerfile_root import ContainerfileInputs, ContainerfileRoot
from buildkit.declare.containerignore import parse_ignore_file
from buildkit.declare.graph import Graph, find_choices, find_project_inputs
from buildkit.declare.image_names import is_pinned
from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.project import Project
from buildkit.declare.stage import Copy, Stage
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Emit
from buildkit.locks.apt_lists import find_apt_lists, find_sources, hash_inputs
from buildkit.locks.apt_lock import apt_lock_path, parse_apt_lock
from buildkit.locks.choice_inputs import check_choice, find_lines
from buildkit.locks.freshness import check_fresh, models_inputs, requirements_inputs, wheels_inputs
from buildkit.locks.images_lock import pin_image
from buildkit.locks.pins import AptPin, Artifact, Model, Pin, PinnedImage, PythonArchive
from buildkit.locks.root_release import find_root_release, find_roots, target_of
from buildkit.locks.system_packages import hash_system
from buildkit.locks.wheels_lock import parse_wheels_lock, wheels_lock_path
from buildkit.plan.spec import Tree
from buildkit.store.stat_index import StatIndex

if TYPE_CHECKING:
    from buildkit.build.derived_models import DerivedModels

IGNORE_FILE = ".containerignore"
_HASHES = re.compile(r"^[^#\n]*?--hash=sha256:([0-9a-f]{64})", re.MULTILINE)  # the first of each line

_OURS = re.compile(r"stages/[^/]+/stage\.toml|.*\.wheels\.toml")  # what the repository's own package is not made of
_HASH = re.compile(r"\b[0-9a-f]{64}\b")


class DiskCheckout:
    """Reads what a composition needs from the files of a project.

    ``models`` says what happens if a model of the repository differs from its lock; ``locks`` are texts of locks by
    path that count in place of those on disk.
    """

    def __init__(
        self,
        project: Project,
        graph: Graph,
        index: StatIndex,
        emit: Emit,
        *,
        models: ModelChanges = ModelChanges.REPORT,
        locks: Mapping[str, str] | None = None,
    ) -> None:
        self.replaced_locks = locks or {}
        self._project = project
        self._graph = graph
        self._index = index
        self._emit = emit
        self._model_changes = models
        self.artifacts = cache(self._artifacts)
        self.apt = cache(self._apt)
        self.models = cache(self._models)
        self.tree = cache(self._tree)
        self._read_copied = cache(self._copied)
        self._choices = find_choices(graph)
        self._project_inputs = find_project_inputs(graph)
        self._lists = cache(lambda: find_apt_lists(graph))
        self._roots = cache(lambda: find_roots(graph))

    @property
    def project(self) -> Project:
        """The project with the processor whose locks are read."""
        return self._project

    def of_arch(self, arch: str) -> DiskCheckout:
        """Return the same checkout for another processor of the project."""
        project, models, locks = self._project.of_arch(arch), self._model_changes, self.replaced_locks
        return DiskCheckout(project, self._graph, self._index, self._emit, models=models, locks=locks)

    def read(self, path: str) -> str | None:
        """Return the text of a file of the project, or None if there is none."""
        if path in self.replaced_locks:
            return self.replaced_locks[path]
        if (choice := self._project_inputs.get(path)) and (text := self.read(choice.file)) is not None:
            from buildkit.locks.project_input import render_project_input  # few have such an input

            return render_project_input(choice, text)
        try:
            return (self._project.folder / path).read_text("utf-8-sig")  # editors on Windows mark the encoding
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except UnicodeDecodeError:
            raise DefinitionError(f"{path}: not UTF-8 text") from None
        except OSError as error:
            raise DefinitionError(f"{path}: cannot be read: {error.strerror}") from error

    def image(self, name: str) -> PinnedImage:
        """Return what the lock of images has for a name; one that is written with a digest needs no lock."""
        if is_pinned(name):
            return PinnedImage(ref=name, pinned=name)
        return pin_image(name, self.read, self._project.target.deb_arch)

    def sources(self, packages: str) -> str:
        """Return the text of the archives that ``[apt]`` puts into an image of a registry."""
        known = next(entry for entry in self._lists() if entry.file == packages)
        return find_sources(known, self.read, self._project.target.deb_arch) if known.image else ""

    def pins(self, lock: str) -> tuple[Pin, ...]:
        """Return the pins of a requirements lock that apply to the target."""
        from buildkit.locks.requirements_txt import applicable, parse_requirements

        if choice := self._choices.get(lock):
            return self._chosen_pins(choice)
        text = self.read(lock) or ""
        pins = parse_requirements(text, lock, describe_local=lambda path: (posixpath.basename(path), ""))
        return applicable(pins, target_of(text, self._project.target))

    def _chosen_pins(self, choice: LockChoice) -> tuple[Pin, ...]:
        lines = find_lines(self.read(choice.file) or "")
        return tuple(
            Pin(
                name=artifact.name,
                version=artifact.version,
                hashes=(artifact.sha256,) if artifact.sha256 else (),
                file=choice.file,
                line=lines.get((artifact.name, artifact.version)) or lines.get((artifact.name, ""), 1),
                path=artifact.path,
            )
            for artifact in self.artifacts(choice.id)
        )

    def _chosen(self, choice: LockChoice) -> tuple[Artifact, ...]:
        """Return what the sidecar of another tool's lock chooses; raises DefinitionError if the lock lacks it."""
        release = find_root_release(self._roots().get(choice.id, ()), self.read, self._project.target)
        _raise(check_choice(choice, self.read, self._project.target, release))
        sidecar = wheels_lock_path(choice.id, self._project.target.lock_arch)
        artifacts = parse_wheels_lock(self.read(sidecar) or "", sidecar).artifacts
        text = self.read(choice.file) or ""
        hashes = set(_HASH.findall(text))
        what, hint = (
            f"which {choice.file} does not have",
            "one of the two was altered; if that is intended, run: nox -s lock",
        )
        problems = [
            Problem(file=sidecar, what=f"{one.name} {one.version} has {one.sha256}, {what}", hint=hint)
            for one in artifacts
            if one.sha256 and (one.git.commit not in text if one.git else one.sha256.hex not in hashes)
        ]
        if problems:
            raise DefinitionError.of(problems)
        return artifacts

    def _artifacts(self, lock: str) -> tuple[Artifact, ...]:
        if choice := self._choices.get(lock):
            return self._chosen(choice)
        text = self.read(lock)
        source = posixpath.splitext(lock)[0] + ".in"
        if self.read(source) is not None:
            inputs = requirements_inputs(source, self.read, self._project.target, locker=self._project.locker)
            release = find_root_release(self._roots().get(lock, ()), self.read, self._project.target)
            system = hash_system(lock, self._graph, self.read, self._project.target)
            self._raise_stale(source, check_fresh(lock, text, inputs, release, system))
        elif text is None:
            raise DefinitionError(
                f"{lock}: the lock is missing, and so is its input {source}", hint=f"write {source}, then: nox -s lock"
            )
        wheels = wheels_lock_path(lock, self._project.target.lock_arch)
        wheels_text = self.read(wheels)
        stale = check_fresh(wheels, wheels_text, wheels_inputs(text or "", self._project.target))
        if stale or wheels_text is None:
            self.pins(lock)  # an error in the lock itself is the better message
            _raise(stale)
            return ()
        artifacts = parse_wheels_lock(wheels_text, wheels).artifacts
        self._check_allowed(lock, text or "", wheels, artifacts)
        return artifacts

    def _raise_stale(self, source: str, stale: Problem | None) -> None:
        """Raise DefinitionError for a stale lock; what is wrong with its input is the better message."""
        if stale is not None:
            from buildkit.locks.input_lines import find_input_problems

            raise DefinitionError.of(find_input_problems(source, self.read) or [stale])

    def _check_allowed(self, lock: str, text: str, wheels: str, artifacts: tuple[Artifact, ...]) -> None:
        """Raise DefinitionError for a file in ``wheels`` that no pin of ``lock`` allows."""
        pinned = set(_HASHES.findall(text))
        if all(artifact.path or (artifact.sha256 and artifact.sha256.hex in pinned) for artifact in artifacts):
            return  # the quick check; details are worked out only for a failure
        pins = self.pins(lock)
        commits = {(pin.name, pin.git) for pin in pins}
        allowed = {(pin.name, pin.version): pin.hashes for pin in pins}
        wrong = [
            a
            for a in artifacts
            if not a.path
            and a.sha256 not in allowed.get((a.name, a.version), ())
            and (a.git is None or (a.name, a.git) not in commits)
        ]
        hint = "one of the two was altered; if that is intended, run: nox -s lock"
        problems = [
            Problem(file=wheels, what=f"{a.name} {a.version} has {a.sha256}, which {lock} does not allow", hint=hint)
            for a in wrong
        ]
        if problems:
            raise DefinitionError.of(problems)

    def _apt(self, packages: str) -> tuple[AptPin, ...]:
        listed = self.read(packages)
        if listed is None:
            raise DefinitionError(f"{packages}: there is no such apt list", hint="one Debian package a line")
        known = next(entry for entry in self._lists() if entry.file == packages)
        target = self._project.target
        inputs = hash_inputs(known, listed, self.read, target)
        lock = apt_lock_path(packages, target.lock_arch)
        text = self.read(lock)
        _raise(check_fresh(lock, text, inputs))
        return parse_apt_lock(text or "", lock).pins

    def containerfile(self, root: ContainerfileRoot) -> tuple[str, ContainerfileInputs, Tree]:
        """Return the text of a root's Containerfile, what it takes, and the files of its context that it reads."""
        from buildkit.build.containerfile_context import read_containerfile_root  # few roots are made so

        return read_containerfile_root(root, self._project.folder, self._index, self.read, self._emit)

    def python(self) -> PythonArchive:
        """Return the archive that the lock of the images' Python pins for the target's processor."""
        from buildkit.locks.python_lock import PYTHON_LOCK, get_python  # most projects have the root's Python

        return get_python(self.read(PYTHON_LOCK), self._project.target)

    def _models(self, lock: str) -> tuple[Model, ...]:
        from buildkit.build.present_models import PresentModels
        from buildkit.locks.models_lock import models_source_path, parse_models_file, parse_models_lock

        text = self.read(lock)
        source = models_source_path(lock)
        source_text = self.read(source)
        if source_text is not None:
            _raise(check_fresh(lock, text, models_inputs(source_text)))
        elif text is None:
            raise DefinitionError(
                f"{lock}: the lock is missing, and so is its input {source}", hint=f"write {source}, then: nox -s lock"
            )
        locked, request = parse_models_lock(text or "", lock), parse_models_file(source_text or "", source)
        asked = {request.name: request.files for request in request.models}
        reader = PresentModels(self._project.folder, self._index, self._model_changes, self._emit)
        models = reader.read_all(locked.models, lock, asked)
        if not request.derived and all(model.derivation is None for model in models):
            return models
        from buildkit.build.derived_models import attach_origins  # few projects derive models

        return attach_origins(models, locked, lock, request.derived, self.derived_models(models))

    def derived_models(self, models: Iterable[Model]) -> DerivedModels:
        """Return the reader of what models are derived from; ``models`` are those of the same lock."""
        from buildkit.build.derived_models import DerivedModels

        first = self._project.arches[0] if self._project.arches else self._project.target.arch
        checkout = self if first == self._project.target.arch else self.of_arch(first)  # one key for all processors
        by_name = {model.name: model for model in models}
        return DerivedModels(self._project.folder, self._graph, self._index, checkout.artifacts, by_name)

    def copied(self, stage: Stage, copy: Copy) -> Tree:
        """Return the files of a copy of the stage."""
        place = locate_source(self._project.folder, stage, copy.source)
        return self._read_copied(place, copy.untracked)

    def _tree(self, path: str) -> Tree:
        tree = self._trees().read(path)
        if posixpath.normpath(path) != ".":
            return tree
        return replace(tree, files=tuple(file for file in tree.files if not _OURS.fullmatch(file.path)))

    def _copied(self, path: str, untracked: bool) -> Tree:
        return self._trees(copied=True, untracked=untracked).read(path)

    def _trees(self, *, copied: bool = False, untracked: bool = False) -> SourceTrees:
        folder, emit = self._project.folder, self._emit
        listing = TreeListing(folder, emit, self._ignored, copied=copied, untracked=untracked)
        return SourceTrees(folder, self._index, listing.names, whole=copied)

    @cached_property
    def _ignored(self) -> Callable[[str], bool]:
        return parse_ignore_file(self.read(IGNORE_FILE) or "", IGNORE_FILE)


def _raise(problem: Problem | None) -> None:
    if problem is not None:
        raise DefinitionError.of([problem])
