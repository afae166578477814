"""The apt lists of a graph, the Debian release each is locked for, and the locks underneath."""

from __future__ import annotations

from buildkit.declare.apt_archives import USUAL, Archives
from buildkit.declare.graph import Graph
from buildkit.declare.stage import Debian, Stage
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AptList:
    """An apt list (``requirements/base.apt``), its release and archives, and the lists it extends, lowest first."""

    file: str
    suite: str
    variant: str
    components: tuple[str, ...]
    base: tuple[str, ...] = ()
    archives: Archives = USUAL


def find_apt_lists(graph: Graph) -> tuple[AptList, ...]:
    """Return every list once, after those in its ``base``. Raises DefinitionError if two roots differ over one list."""
    found: dict[str, AptList] = {}
    problems: list[Problem] = []
    for stage in graph.stages.values():
        below: list[str] = []
        debian: Debian | None = None
        for link in graph.resolve(stage.name).chain:
            debian = link.debian or debian
            for file in filter(None, (link.debian.packages if link.debian else "", link.apt)):
                _add(found, _listed(file, debian, below, link), link, problems)
                below.append(file)
    if problems:
        raise DefinitionError.of(list(dict.fromkeys(problems)))
    return tuple(sorted(found.values(), key=lambda listed: (len(listed.base), listed.file)))


def _listed(file: str, debian: Debian | None, below: list[str], stage: Stage) -> AptList:
    if debian is None:
        raise DefinitionError(
            f"{stage.file}: `apt` needs a Debian root made from a lock; a registry image has no lock to extend",
            hint="use a [[run]] step with `network = true`",
        )
    return AptList(
        file=file,
        suite=debian.suite,
        variant=debian.variant,
        components=debian.components,
        base=tuple(below),
        archives=debian.archives,
    )


def _add(found: dict[str, AptList], listed: AptList, stage: Stage, problems: list[Problem]) -> None:
    if found.setdefault(listed.file, listed) != listed:
        what = f"{listed.file} is already locked for another root"
        problems.append(Problem(file=stage.file, what=what, hint="give each root an apt list of its own"))
