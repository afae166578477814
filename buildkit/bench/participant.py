"""The protocol of participants, and the values they return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from buildkit.bench.measure import MeasuredRun
from buildkit.bench.project_copy import ProjectChange

EVERYTHING = "*"  # stands for all paths: nothing can be reused


class Goal(StrEnum):
    """The goal of a race: when the clock stops, and the state that it starts from."""

    RUNNABLE = "runnable"  # podman can run the image
    PUSHED = "pushed"  # the registry has it; nothing is imported
    FRESH = "fresh"  # pushed from a machine that has nothing but a warm remote cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A Containerfile instruction, and whether its result came from a cache.

    ``stage`` is the name of its build stage, empty if there is only one.
    """

    text: str
    cached: bool
    stage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """One build: its cost, and what the participant reports to have built."""

    ran: MeasuredRun
    steps: tuple[Step, ...] = ()  # peers: instructions
    kinds: Mapping[str, int] | None = None  # this project: number of layers built, by kind
    kept: tuple[str, ...] = ()  # this project: layers that were reused
    phases: Mapping[str, float] = field(default_factory=dict)


class Participant(Protocol):
    """A participant has an image, caches and storage of its own for every `Goal`.

    It pushes to the repository ``NAME/GOAL``.
    """

    @property
    def name(self) -> str:
        """The name in results."""

    @property
    def version(self) -> str:
        """The version in results."""

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The goals it can reach."""

    def clear(self, goal: Goal) -> None:
        """Remove everything: images, caches, downloads. Raises BuildError."""

    def build(self, goal: Goal) -> BuildOutcome:
        """Build the current checkout. A failure is a result."""

    def inspect(self, goal: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        """Return the SHA-256 of those paths that the image has."""

    def space(self, goal: Goal) -> int:
        """Return the bytes on disk: images, caches, downloads."""

    def close(self) -> None:
        """Stop whatever runs in the background."""


class PeerUnavailable(Exception):
    """A peer cannot take part on this machine. The message gives the reason."""


@dataclass(slots=True)
class Expectation:
    """The files that an image must contain or lack after all changes so far."""

    files: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def add(self, change: ProjectChange) -> None:
        """Add a change."""
        self.files |= dict(change.files)
        self.gone = (self.gone | set(change.gone)) - set(self.files)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths to check, sorted."""
        return tuple(sorted({*self.files, *self.gone}))

    def check(self, found: Mapping[str, str]) -> str:
        """Return what is wrong with an image in one line, or an empty string."""
        missing = [path for path in self.files if path not in found]
        stale = [path for path, digits in self.files.items() if found.get(path, digits) != digits]
        left = [path for path in sorted(self.gone) if path in found]
        words = ((missing, "is missing"), (stale, "is not what it should be"), (left, "should be gone"))
        return "; ".join(f"/{path} {what}" for paths, what in words for path in paths[:2])


def check_kinds(kinds: Mapping[str, int], expected: Mapping[str, int]) -> str:
    """Return which layers were built without need or are missing, or an empty string."""
    more, less = Counter(kinds) - Counter(expected), Counter(expected) - Counter(kinds)
    words = [
        f"{count} of {kind} too {what}"
        for what, counts in (("many", more), ("few", less))
        for kind, count in counts.items()
    ]
    return f"layers: {', '.join(words)}" if words else ""


def check_steps(steps: Iterable[Step], changed: Iterable[str]) -> str:
    """Return the first instruction that a peer repeated without need, or an empty string.

    ``changed`` holds paths of the build context, or `EVERYTHING`. An instruction must run again if it names one of
    them or copies from a stage with such an instruction; so must the instructions after it in its stage.
    """
    inputs = list(changed)
    if EVERYTHING in inputs:
        return ""
    affected = set[str]()
    for step in steps:
        if any(_names(step.text, path) for path in inputs) or _copied_from(step.text) & affected:
            affected.add(step.stage)
        elif not (step.stage in affected or step.cached):
            return f"done again without need: {step.text[:60]}"
    return ""


def check_cold(built: BuildOutcome) -> str:
    """Return what a cold build reused from a cache first, as it reports, or an empty string."""
    reused = [
        *built.kept,
        *(step.text[:60] for step in built.steps if step.cached and not step.text.startswith("FROM ")),
    ]
    return f"found, where nothing was: {reused[0]}" if reused else ""


def _copied_from(instruction: str) -> set[str]:
    return {word.removeprefix("--from=") for word in instruction.split() if word.startswith("--from=")}


def _names(instruction: str, path: str) -> bool:
    """Return whether an instruction reads a path of the context or a folder above it."""
    words = instruction.replace("=", " ").replace(",", " ").split()
    return any(path == word or path.startswith(f"{word.rstrip('/')}/") for word in words if word != "/")
