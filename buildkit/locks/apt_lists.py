"""Which apt lists a graph has, for which Debian each is locked, and which locks lie underneath."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.declare.graph import Graph
from buildkit.declare.stage import Debian, Stage
from buildkit.errors import DefinitionError, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class AptList:
    """An apt list (``requirements/base.apt``), its Debian, and the lists whose locks it adds to, lowest first."""

    file: str
    suite: str
    variant: str
    components: tuple[str, ...]
    base: tuple[str, ...] = ()


def find_apt_lists(graph: Graph) -> tuple[AptList, ...]:
    """Every list once, after those in its ``base``; raises DefinitionError where one list has two meanings."""
    found: dict[str, AptList] = {}
    problems: list[Problem] = []
    for stage in graph.stages.values():
        below: list[str] = []
        debian: Debian | None = None
        for link in graph.resolve(stage.name).chain:
            debian = link.debian or debian
            for file in filter(None, (link.debian.packages if link.debian else "", link.apt)):
                _note(found, _listed(file, debian, below, link), link, problems)
                below.append(file)
    if problems:
        raise DefinitionError.of(list(dict.fromkeys(problems)))
    return tuple(sorted(found.values(), key=lambda listed: (len(listed.base), listed.file)))


def _listed(file: str, debian: Debian | None, below: list[str], stage: Stage) -> AptList:
    if debian is None:
        raise DefinitionError(
            f"{stage.file}: `apt` needs a Debian root made here; an image of a registry has no lock to add to",
            hint="use a [[run]] step with `network = true`",
        )
    return AptList(
        file=file, suite=debian.suite, variant=debian.variant, components=debian.components, base=tuple(below)
    )


def _note(found: dict[str, AptList], listed: AptList, stage: Stage, problems: list[Problem]) -> None:
    if found.setdefault(listed.file, listed) != listed:
        what = f"{listed.file} is locked for another root already"
        problems.append(Problem(file=stage.file, what=what, hint="give each root an apt list of its own"))
