"""Audit the containers that run: podman says which there are, the kernel what they do, the checkout what they may."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.audit.described import DescribedContainer, parse_described, parse_runtime_calls
from buildkit.audit.running_policy import ContainerVerdict, judge
from buildkit.audit.sighting import GivenFlags, Sighting
from buildkit.errors import ToolError
from buildkit.findings import Finding, Severity
from buildkit.inspection.declared_containers import Declarations
from buildkit.tools.cgroups import CgroupReader
from buildkit.tools.process_reader import ContainerProcesses
from buildkit.tools.running_containers import RunningDescriptions

_LONGEST = 16 << 20  # bytes of a runtime configuration
ReadContainers = Callable[[Sequence[ContainerProcesses]], Mapping[str, Sighting]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedContainer:
    """A container with its verdict; ``stage`` is empty if its image is none of the project's."""

    id: str
    name: str
    image: str
    stage: str
    verdict: ContainerVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningAudit:
    """What was found at ``time`` (seconds since the epoch); ``problems`` say what could not be asked at all."""

    time: float
    containers: tuple[AuditedContainer, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, without those that are accepted."""
        return tuple(finding for one in self.containers for finding in one.verdict.findings)

    @property
    def complete(self) -> bool:
        """Whether every container was examined wholly."""
        return not self.problems and all(one.verdict.complete for one in self.containers)

    def closes(self, gate: Severity | None) -> bool:
        """Return whether a finding reaches ``gate``, or something could not be examined, which is not a pass."""
        return not self.complete or (gate is not None and any(one.severity >= gate for one in self.findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSources:
    """What an audit asks: podman, the kernel, the time; with ``every``, other projects' containers count, too."""

    podman: RunningDescriptions
    read: ReadContainers
    wall: Callable[[], float]
    limits: CgroupReader
    every: bool = False


def audit_containers(declarations: Declarations, sources: AuditSources) -> RunningAudit:
    """Look at the running containers once. What podman or the kernel do not tell is a problem of the result.

    Raises MissingTool.
    """
    now = sources.wall()
    try:
        described = [parse_described(one) for one in sources.podman.find()]
        wanted = [one for one in described if sources.every or declarations.concerns(one)]
        seen = sources.read([_to_read(one) for one in wanted])
    except ToolError as error:
        return RunningAudit(time=now, problems=(error.message,))
    there = [one for one in wanted if one.id in seen]
    if len(there) < len(wanted):
        sources.podman.forget()
    found, why = declarations.find(there)
    return RunningAudit(
        time=now,
        problems=(why,) if why else (),
        containers=tuple(
            AuditedContainer(
                id=one.id,
                name=one.name,
                image=one.image_name,
                stage=found[one.id].declared.stage,
                verdict=judge(
                    _with_limits(seen[one.id], one, sources.limits),
                    _with_calls(one),
                    found[one.id].image,
                    found[one.id].declared,
                ),
            )
            for one in sorted(there, key=lambda one: (one.name, one.id))
        ),
    )


def _to_read(one: DescribedContainer) -> ContainerProcesses:
    return ContainerProcesses(id=one.id, pid=one.pid, runtime=one.runtime, layers=one.layers)


def _with_limits(seen: Sighting, one: DescribedContainer, reader: CgroupReader) -> Sighting:
    """Return what was seen with the container's limits: its first process is in its group, or in none."""
    limits = reader.read_limits(reader.find_files(one.pid, one.id))
    return replace(seen, memory=limits.memory, pids=limits.pids)


def _with_calls(one: DescribedContainer) -> GivenFlags:
    """Return how it was started, with the filter of system calls that the runtime was told to set."""
    try:
        with Path(one.config).open("rb") as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            return one.flags
        return replace(one.flags, calls=parse_runtime_calls(text.decode("utf-8")))
    except (OSError, ValueError):
        return one.flags  # without calls, which is a finding where they matter
