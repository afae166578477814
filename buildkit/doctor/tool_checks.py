"""Checks of programs and versions. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.digits import find_number
from buildkit.doctor.diagnosis import Diagnosis, DiagnosisStatus, error, note, ok, warning
from buildkit.doctor.facts import HostFacts, InstalledTool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequirement:
    """A program, the oldest release that is known to work, and what its absence costs."""

    tool: str
    oldest: str
    absent: DiagnosisStatus
    cost: str
    package: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDefect:
    """A bug or a missing feature in a program's releases before ``fixed``."""

    tool: str
    fixed: str
    what: str
    cost: str


REQUIREMENTS = (
    ToolRequirement(
        tool="buildah", oldest="1.28", absent=DiagnosisStatus.ERROR, cost="no stage with a root can be built"
    ),
    ToolRequirement(
        tool="skopeo", oldest="1.9", absent=DiagnosisStatus.ERROR, cost="no image reaches storage or a registry"
    ),
    ToolRequirement(tool="mmdebstrap", oldest="1.3", absent=DiagnosisStatus.ERROR, cost="no Debian root can be made"),
    ToolRequirement(
        tool="git", oldest="2.30", absent=DiagnosisStatus.ERROR, cost="the files of an application layer are unknown"
    ),
    ToolRequirement(tool="uv", oldest="0.9", absent=DiagnosisStatus.WARNING, cost="`nox -s lock` cannot resolve"),
    ToolRequirement(
        tool="podman",
        oldest="4.3",
        absent=DiagnosisStatus.NOTE,
        cost="built images cannot be run here; the tests need it",
        package="podman nftables",
    ),
)

DEFECTS = (
    ReleaseDefect(
        tool="buildah",
        fixed="1.29",
        what="cache mounts with sharing=locked hang (containers/buildah#4342)",
        cost="a `run` step that uses one never ends",
    ),
    ReleaseDefect(
        tool="buildah",
        fixed="1.36",
        what="CDI devices cannot be given to `run` steps",
        cost="no GPU during a build",
    ),
    ReleaseDefect(
        tool="buildah",
        fixed="1.41",
        what="mount targets stay behind in the root",
        cost="mounts only on folders that the root already has",
    ),
    ReleaseDefect(
        tool="podman",
        fixed="4.6",
        what="knows no CONTAINERS_CONF_OVERRIDE",
        cost="a containers.conf of your own replaces the system's",
    ),
)


def check_tools(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check each program that builds need, and known defects of its release."""
    for requirement in REQUIREMENTS:
        tool = facts.find_tool(requirement.tool)
        yield _check_requirement(requirement, tool)
        for defect in DEFECTS:
            if defect.tool == tool.name and tool.version and is_older(tool.version, defect.fixed):
                yield Diagnosis(
                    id=f"{tool.name}-{defect.fixed}",
                    status=DiagnosisStatus.NOTE,
                    what=f"{tool.name} {tool.version} is before {defect.fixed}: {defect.what}",
                    cost=defect.cost,
                )


def check_runtime(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check for an OCI runtime that works with the host's cgroups."""
    found = facts.containers.runtimes
    kind = facts.containers.cgroups
    if kind == "none":
        yield warning(
            "runtime",
            "no cgroups are mounted",
            "containers run without limits, and only with `--isolation chroot` or `--cgroups=disabled`",
        )
    elif not found:
        package = "crun" if kind == "v2" else "runc"
        yield error(
            "runtime",
            "neither crun nor runc is installed",
            "no container runs",
            f"sudo apt-get install {package}",
        )
    elif kind in ("hybrid", "v1") and "runc" not in found:
        yield error(
            "runtime",
            f"only crun is installed, and cgroups are {kind}",
            "crun refuses to start any container",
            "sudo apt-get install runc",
        )
    elif kind in ("hybrid", "v1") and "crun" in found:
        yield warning(
            "runtime",
            f"cgroups are {kind}, and podman prefers crun",
            "crun refuses to start any container; runc is installed and works",
            f"export CONTAINERS_CONF=FILE  # FILE: {_one_line(facts)}",
        )
    else:
        yield ok("runtime", f"{' and '.join(found)}, cgroups {kind}")


def check_rootless_tools(facts: HostFacts) -> Iterator[Diagnosis]:
    """Check for newuidmap; without it an ordinary user's build has a single uid."""
    if facts.system.uid != 0 and not facts.find_tool("newuidmap").path:
        yield error("uidmap", "newuidmap is missing", "builds without root fail", "sudo apt-get install uidmap")


def is_older(version: str, than: str) -> bool:
    """Return whether dotted ``version`` comes before ``than``; numbers compare as numbers."""
    return _numbers(version) < _numbers(than)


def _check_requirement(requirement: ToolRequirement, tool: InstalledTool) -> Diagnosis:
    package = requirement.package or requirement.tool
    if not tool.path:
        mend = "pip install uv" if requirement.tool == "uv" else f"sudo apt-get install {package}"
        return Diagnosis(
            id=requirement.tool,
            status=requirement.absent,
            what=f"{requirement.tool} is not installed",
            cost=requirement.cost,
            mend=mend,
        )
    if not tool.version:
        return note(
            requirement.tool, f"{tool.path} does not say its version", f"at least {requirement.oldest} is known to work"
        )
    if is_older(tool.version, requirement.oldest):
        return warning(
            requirement.tool,
            f"{requirement.tool} {tool.version} is older than {requirement.oldest}, the oldest tested release",
            "steps may fail in unknown ways",
            f"sudo apt-get install --only-upgrade {package}",
        )
    return ok(requirement.tool, f"{requirement.tool} {tool.version}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(number for part in version.split(".") if (number := find_number(part)) is not None)


def _one_line(facts: HostFacts) -> str:
    from buildkit.doctor.containersconf import render_containers_conf

    return " ".join(render_containers_conf(facts.containers).split("\n")).strip()
