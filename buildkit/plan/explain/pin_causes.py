"""Causes that lie in what is pinned: wheels, Debian packages, the interpreter, images and the steps of a root."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.plan.explain.causes import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class PinChanged(Cause):
    """A wheel has another version."""

    name: str
    before: str
    after: str

    def _words(self) -> str:
        return f"{self.name} {self.before or '?'} → {self.after or '?'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinAdded(Cause):
    """A wheel is new."""

    name: str
    version: str

    def _words(self) -> str:
        return f"{_versioned(self.name, self.version)} added"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinRemoved(Cause):
    """A wheel is no longer wanted."""

    name: str
    version: str

    def _words(self) -> str:
        return f"{_versioned(self.name, self.version)} removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMoved(Cause):
    """A wheel left a bin for a layer of its own, or the other way, or for another bin."""

    name: str
    version: str
    before: str
    after: str

    def _words(self) -> str:
        return f"{_versioned(self.name, self.version)} moved from {self.before} to {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactChanged(Cause):
    """The version is the same, the distribution is another; ``before`` and ``after`` say how, where they differ."""

    name: str
    version: str
    before: str = ""
    after: str = ""

    def _words(self) -> str:
        what = f"{self.after}, {self.before} before" if self.before != self.after else "another file"
        return f"{_versioned(self.name, self.version)}: {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledAnew(Cause):
    """A wheel that is compiled here is compiled again, because of a change of its source or of the builder."""

    name: str
    version: str
    because: Cause | None = None

    def _words(self) -> str:
        return f"{self.name} compiled anew" + (f": {self.because}" if self.because else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChanged(Cause):
    """A wheel's sdist is another file of the same version."""

    name: str

    def _words(self) -> str:
        return f"its sdist `{self.name}` is another file"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderChanged(Cause):
    """The stage in which sdists are compiled changed in a way that is not known any more."""

    stage: str

    def _words(self) -> str:
        return f"the stage `{self.stage}` changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageChanged(Cause):
    """A Debian package of a stage's root has another version."""

    name: str
    before: str
    after: str
    stage: str

    def _words(self) -> str:
        return f"{self.name} {self.before} → {self.after}{_in(self.stage)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageAdded(Cause):
    """A Debian package is new in a stage's root."""

    name: str
    version: str
    stage: str

    def _words(self) -> str:
        return f"{self.name} {self.version} added{_in(self.stage)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRemoved(Cause):
    """A Debian package is no longer in a stage's root."""

    name: str
    version: str
    stage: str

    def _words(self) -> str:
        return f"{self.name} {self.version} removed{_in(self.stage)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpreterChanged(Cause):
    """Python itself, which is in a root and compiles bytecode; ``because`` where its version is not known."""

    stage: str
    before: str = ""
    after: str = ""
    because: Cause | None = None

    def _words(self) -> str:
        if self.because:
            return f"the root that compiles bytecode: {self.because}"
        if self.before != self.after:
            return f"python {self.before} → {self.after}{_in(self.stage)}"
        return f"another Python compiles bytecode{_in(self.stage)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChanged(Cause):
    """A root is another image of a registry; what changes of a reference is often its digest alone."""

    before: str
    after: str

    def _words(self) -> str:
        names = [ref.partition("@")[0] for ref in (self.before, self.after)]
        return f"image {names[0]} → {names[1]}" if names[0] != names[1] else f"image {names[1]}: another digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAdded(Cause):
    """A step is new."""

    step: str

    def _words(self) -> str:
        return f"step {self.step} added"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRemoved(Cause):
    """A step is gone."""

    step: str

    def _words(self) -> str:
        return f"step {self.step} removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootBelowChanged(Cause):
    """What a step runs on changed; ``layer`` is which layer of it, ``because`` why, where that is still known."""

    layer: str
    because: Cause | None = None

    def _words(self) -> str:
        return f"below it, {self.because}" if self.because else f"below it, {self.layer} changed"


def _versioned(name: str, version: str) -> str:
    return f"{name} {version}".rstrip()  # of a package of the repository the version may not be known


def _in(stage: str) -> str:
    return f" in {stage}" if stage else ""
