"""What is made anew after a change; pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum

from .trees import AppTrees, is_third_party


class Part(StrEnum):
    """What a change makes old, from the cheapest to the dearest."""

    NOTHING = "nothing"
    WORKER = "worker"
    KEPT = "kept"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The part to be made anew, with the files that ask for it, sorted."""

    part: Part
    files: tuple[str, ...] = ()


def decide(changed: Iterable[str], trees: AppTrees, kept: Set[str]) -> Decision:
    """Return what these paths make old.

    ``kept`` are the application's files that the parent of the workers has imported. Of files of several parts the
    dearest counts.
    """
    by_part: dict[Part, list[str]] = {}
    for path in sorted(set(changed)):
        if is_third_party(path):
            part = Part.CONTAINER
        elif not trees.holds(path) or trees.ignores(path):
            part = Part.NOTHING
        else:
            part = Part.KEPT if path in kept else Part.WORKER
        by_part.setdefault(part, []).append(path)
    for part in (Part.CONTAINER, Part.KEPT, Part.WORKER):
        if part in by_part:
            return Decision(part=part, files=tuple(by_part[part]))
    return Decision(part=Part.NOTHING, files=tuple(by_part.get(Part.NOTHING, ())))
