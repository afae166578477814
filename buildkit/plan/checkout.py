"""The interface of a checkout for composing stages: files on disk, or a fake in tests."""

from __future__ import annotations

from typing import Protocol

from buildkit.declare.containerfile_root import ContainerfileInputs, ContainerfileRoot
from buildkit.declare.stage import Copy, Stage
from buildkit.locks.pins import AptPin, Artifact, Model, Pin, PinnedImage, PythonArchive
from buildkit.plan.spec import Tree


class Checkout(Protocol):
    """Locks and trees of a checkout; every method raises DefinitionError if its answer cannot be read."""

    def artifacts(self, lock: str) -> tuple[Artifact, ...]:
        """Return the distributions of a requirements lock that apply to the target."""

    def pins(self, lock: str) -> tuple[Pin, ...]:
        """Return the pins of a requirements lock that apply to the target, with their lines."""

    def apt(self, packages: str) -> tuple[AptPin, ...]:
        """Return the pins of the lock that belongs to an apt list."""

    def image(self, name: str) -> PinnedImage:
        """Return what the name of a root's image stands for."""

    def sources(self, packages: str) -> str:
        """Return the text of the archives that an apt list puts into an image; empty for those that it has."""

    def models(self, lock: str) -> tuple[Model, ...]:
        """Return the models of a models lock."""

    def containerfile(self, root: ContainerfileRoot) -> tuple[str, ContainerfileInputs, Tree]:
        """Return the text of a root's Containerfile, what it takes, and the files of its context that it reads."""

    def python(self) -> PythonArchive:
        """Return the archive of the images' own Python, if the target's is not the root's."""

    def tree(self, path: str) -> Tree:
        """Return the files below a path of the repository."""

    def copied(self, stage: Stage, copy: Copy) -> Tree:
        """Return the files of a copy of the stage."""
