"""Checks of programs and versions. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.doctor.facts import Facts, Tool
from buildkit.doctor.finding import Diagnosis, Status, error, note, ok, warning

BOOTSTRAP = "ci/bootstrap true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A program, the oldest release that is known to work, and what its absence costs."""

    tool: str
    oldest: str
    absent: Status
    cost: str
    package: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """A fault or a missing feature of a program's releases below ``fixed``."""

    tool: str
    fixed: str
    what: str
    cost: str
    status: Status = Status.NOTE


NEEDS = (
    Need(tool="buildah", oldest="1.28", absent=Status.ERROR, cost="no stage with a root can be built"),
    Need(tool="skopeo", oldest="1.9", absent=Status.ERROR, cost="no image reaches storage or a registry"),
    Need(tool="mmdebstrap", oldest="1.3", absent=Status.ERROR, cost="no Debian root can be made"),
    Need(tool="git", oldest="2.30", absent=Status.ERROR, cost="the files of an application layer are unknown"),
    Need(tool="uv", oldest="0.9", absent=Status.WARNING, cost="`nox -s lock` cannot resolve"),
    Need(tool="podman", oldest="4.3", absent=Status.NOTE, cost="built images cannot be run here; the tests need it"),
)  # fmt: skip

FLAWS = (
    Flaw(
        tool="buildah",
        fixed="1.29",
        what="cache mounts with sharing=locked hang (containers/buildah#4342)",
        cost="a `run` step that uses one never ends",
    ),
    Flaw(
        tool="buildah",
        fixed="1.36",
        what="CDI devices cannot be given to `run` steps",
        cost="no GPU during a build",
    ),
    Flaw(
        tool="buildah",
        fixed="1.41",
        what="mount targets stay behind in the root",
        cost="mounts only on folders that the root already has",
    ),
    Flaw(
        tool="podman",
        fixed="4.6",
        what="knows no CONTAINERS_CONF_OVERRIDE",
        cost="a containers.conf of your own replaces the system's",
    ),
)


def check_tools(facts: Facts) -> Iterator[Diagnosis]:
    """Each program that building needs, and what is wrong with its release."""
    for need in NEEDS:
        tool = facts.find_tool(need.tool)
        yield _check_need(need, tool)
        for flaw in FLAWS:
            if flaw.tool == tool.name and tool.version and is_older(tool.version, flaw.fixed):
                yield Diagnosis(
                    id=f"{tool.name}-{flaw.fixed}",
                    status=flaw.status,
                    what=f"{tool.name} {tool.version} is before {flaw.fixed}: {flaw.what}",
                    cost=flaw.cost,
                )


def check_runtime(facts: Facts) -> Iterator[Diagnosis]:
    """An OCI runtime that works with the host's cgroups."""
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
            "there is neither crun nor runc",
            "no container runs",
            f"sudo apt-get install {package}",
        )
    elif kind in ("hybrid", "v1") and "runc" not in found:
        yield error(
            "runtime",
            f"only crun is here, and cgroups are {kind}",
            "crun refuses to start any container",
            "sudo apt-get install runc",
        )
    elif kind in ("hybrid", "v1") and "crun" in found:
        yield warning(
            "runtime",
            f"cgroups are {kind}, and podman prefers crun",
            "crun refuses to start any container; runc is here and works",
            f"export CONTAINERS_CONF=FILE  # FILE: {_one_line(facts)}",
        )
    else:
        yield ok("runtime", f"{' and '.join(found)}, cgroups {kind}")


def check_rootless_tools(facts: Facts) -> Iterator[Diagnosis]:
    """newuidmap, without which an ordinary user's build has one uid."""
    if facts.system.uid != 0 and not facts.find_tool("newuidmap").path:
        yield error("uidmap", "newuidmap is missing", "builds without root fail", "sudo apt-get install uidmap")


def is_older(version: str, than: str) -> bool:
    """Whether dotted ``version`` comes before ``than``; numbers compare as numbers."""
    return _numbers(version) < _numbers(than)


def _check_need(need: Need, tool: Tool) -> Diagnosis:
    package = need.package or need.tool
    if not tool.path:
        mend = BOOTSTRAP if need.tool == "uv" else f"sudo apt-get install {package}"
        return Diagnosis(
            id=need.tool, status=need.absent, what=f"{need.tool} is not installed", cost=need.cost, mend=mend
        )
    if not tool.version:
        return note(need.tool, f"{tool.path} does not say its version", f"at least {need.oldest} is known to work")
    if is_older(tool.version, need.oldest):
        return warning(
            need.tool,
            f"{need.tool} {tool.version} is older than {need.oldest}, the oldest release that was tried",
            "steps may fail in ways that nobody has seen",
            f"sudo apt-get install --only-upgrade {package}",
        )
    return ok(need.tool, f"{need.tool} {tool.version}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _one_line(facts: Facts) -> str:
    from buildkit.doctor.containersconf import render_containers_conf

    return " ".join(render_containers_conf(facts.containers).split("\n")).strip()
