"""Who races: what every participant can be asked, and what it answers. Values and one protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from buildkit.bench.measure import MeasuredRun
from buildkit.bench.project_copy import ProjectChange

EVERYTHING = "*"  # in place of paths: nothing can be kept


class Goal(StrEnum):
    """Where the clock stops, and from which state it starts."""

    RUNNABLE = "runnable"  # podman can run the image
    PUSHED = "pushed"  # the registry has it; nothing is imported
    FRESH = "fresh"  # pushed, by a machine that has nothing but a warm shared cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An instruction of a Containerfile, and whether its result was found rather than made.

    ``stage`` is the name of its build stage, empty where there is one alone.
    """

    text: str
    cached: bool
    stage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """What a participant did: its cost, and what it made anew by its own account."""

    ran: MeasuredRun
    steps: tuple[Step, ...] = ()  # of peers
    kinds: Mapping[str, int] | None = None  # of ours: layers built, by kind
    kept: tuple[str, ...] = ()  # of ours: layers that were not built
    phases: Mapping[str, float] = field(default_factory=dict)


class Participant(Protocol):
    """One of those who race. Every state (`Until`) has an image, caches and a storage of its own.

    It pushes to the repository ``NAME/UNTIL``.
    """

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def version(self) -> str:
        """Which it is."""

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Where it takes part."""

    def clear(self, goal: Goal) -> None:
        """Have nothing: no image, no cache, nothing fetched. Raises BuildError."""

    def build(self, goal: Goal) -> BuildOutcome:
        """Build the checkout as it is; a failure is a result."""

    def inspect(self, goal: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        """Of these paths those that the image has, with the SHA-256 of each."""

    def space(self, goal: Goal) -> int:
        """Bytes on the disk: images, caches, and what was fetched."""

    def close(self) -> None:
        """End what runs in the background."""


class PeerUnavailable(Exception):
    """A peer cannot take part here; the message says why."""


@dataclass(slots=True)
class Expectation:
    """What an image must hold after all changes so far; older ones must still be there."""

    files: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def add(self, change: ProjectChange) -> None:
        """The change was made."""
        self.files |= dict(change.files)
        self.gone = (self.gone | set(change.gone)) - set(self.files)

    @property
    def paths(self) -> tuple[str, ...]:
        """What must be looked at."""
        return tuple(sorted({*self.files, *self.gone}))

    def check(self, found: Mapping[str, str]) -> str:
        """What is wrong with an image, in one line; empty if it is right."""
        missing = [path for path in self.files if path not in found]
        stale = [path for path, digits in self.files.items() if found.get(path, digits) != digits]
        left = [path for path in sorted(self.gone) if path in found]
        words = ((missing, "is missing"), (stale, "is not what it should be"), (left, "should be gone"))
        return "; ".join(f"/{path} {what}" for paths, what in words for path in paths[:2])


def check_kinds(kinds: Mapping[str, int], wanted: Mapping[str, int]) -> str:
    """What we built beyond what had to be, or failed to build; empty for neither."""
    more, less = Counter(kinds) - Counter(wanted), Counter(wanted) - Counter(kinds)
    words = [
        f"{count} of {kind} too {what}"
        for what, counts in (("many", more), ("few", less))
        for kind, count in counts.items()
    ]
    return f"layers: {', '.join(words)}" if words else ""


def check_steps(steps: Iterable[Step], changed: Iterable[str]) -> str:
    """Whether a peer made more anew than a change asks for; empty if not.

    ``changed`` are paths of the context, or `EVERYTHING`. An instruction needs to be done again if it names one of
    them, or copies from a stage that has such an instruction; and so do those after it in their stage.
    """
    known = list(changed)
    if EVERYTHING in known:
        return ""
    affected = set[str]()
    for step in steps:
        if any(_names(step.text, path) for path in known) or _copied_from(step.text) & affected:
            affected.add(step.stage)
        elif not (step.stage in affected or step.cached):
            return f"done again without need: {step.text[:60]}"
    return ""


def check_cold(built: BuildOutcome) -> str:
    """What was found where nothing was, by the participant's own account; empty for nothing."""
    found = [
        *built.kept,
        *(step.text[:60] for step in built.steps if step.cached and not step.text.startswith("FROM ")),
    ]
    return f"found, where nothing was: {found[0]}" if found else ""


def _copied_from(instruction: str) -> set[str]:
    return {word.removeprefix("--from=") for word in instruction.split() if word.startswith("--from=")}


def _names(instruction: str, path: str) -> bool:
    """Whether an instruction reads a path of the context, or a folder above it."""
    words = instruction.replace("=", " ").replace(",", " ").split()
    return any(path == word or path.startswith(f"{word.rstrip('/')}/") for word in words if word != "/")
