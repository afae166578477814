"""Find advisories for what the locks pin. No answer is not a pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit.build.planner import Planner
from buildkit.errors import FetchError
from buildkit.findings import Finding, Rule, Severity
from buildkit.report.findings_table import render_findings
from buildkit.report.text import format_count, sanitize_line
from buildkit.tools.auditor import Vulnerability

_DEBIAN = "Debian's security tracker is not asked; take newer ones: nox -s lock -- --upgrade"
CLEAN, VULNERABLE, UNCHECKED = "clean", "vulnerable", "could-not-check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The pins to check, each with its locks, and what is not checked, with a count and the reason."""

    pins: dict[tuple[str, str], tuple[str, ...]]
    left_out: tuple[tuple[str, int, str], ...]


def find_scope(planner: Planner, stages: Iterable[str]) -> Scope:
    """Return what the locks of stages pin, and what else is in their images."""
    parts = {part.name: part for stage in stages for part in planner.graph.resolve(stage).parts}
    locks = dict.fromkeys(lock for part in parts.values() for lock in part.wheels)
    pins: dict[tuple[str, str], list[str]] = {}
    own: set[str] = set()
    cloned: set[str] = set()
    for lock in locks:
        for artifact in planner.checkout.artifacts(lock):
            if artifact.path:
                own.add(artifact.path)
            elif not artifact.version:
                cloned.add(artifact.name)
            else:
                pins.setdefault((artifact.name, artifact.version), []).append(lock)
    for lock in dict.fromkeys(part.models.lock for part in parts.values() if part.models):
        for wheel in filter(None, (model.wheel for model in planner.checkout.models(lock))):
            pins.setdefault((wheel.name, wheel.version), []).append(lock)
    debian = {part.debian.packages for part in parts.values() if part.debian} | {p.apt for p in parts.values() if p.apt}
    images = {part.image for part in parts.values() if part.image}
    packages = {pin for listed in debian for pin in planner.checkout.apt(listed)}
    left_out = (
        ("Debian package", len(packages), _DEBIAN),
        ("image of a registry", len(images), "what it holds is its maker's to watch"),
        ("package of the repository", len(own), "no advisory is about it"),
        ("package of a git repository", len(cloned), "its lock does not say its version"),
    )
    whole = {pin: tuple(sorted(set(places))) for pin, places in sorted(pins.items())}
    return Scope(pins=whole, left_out=tuple(row for row in left_out if row[1]))


def as_json(
    scope: Scope, advisories: Sequence[Vulnerability], counted: Sequence[Vulnerability], failure: FetchError | None
) -> dict[str, Any]:
    """Return ``{"outcome", "why", "checked", "vulnerabilities", "unchecked"}``.

    ``outcome`` is CLEAN, VULNERABLE or UNCHECKED.
    """
    return {
        "outcome": UNCHECKED if failure else VULNERABLE if counted else CLEAN,
        "why": failure.message if failure else "",
        "checked": [] if failure else [{"name": n, "version": v, "locks": list(p)} for (n, v), p in scope.pins.items()],
        "vulnerabilities": [
            {
                "id": advisory.id,
                "aliases": list(advisory.aliases),
                "name": advisory.name,
                "version": advisory.version,
                "summary": advisory.summary,
                "fixed": list(advisory.fixed),
                "link": advisory.link,
                "locks": list(_locks(scope, advisory)),
                "ignored": advisory not in counted,
            }
            for advisory in advisories
        ],
        "unchecked": [{"what": what, "count": count, "why": why} for what, count, why in scope.left_out],
    }


def render(
    scope: Scope, advisories: Sequence[Vulnerability], counted: Sequence[Vulnerability], failure: FetchError | None
) -> list[str]:
    """Return the findings, the ignored advisories and the totals, as lines for people."""
    lines = render_findings([finding for advisory in counted for finding in _findings(scope, advisory)])
    lines += [""] if lines else []
    lines += [
        sanitize_line(f"ignored: {advisory.id} of {advisory.name} {advisory.version}")
        for advisory in advisories
        if advisory not in counted
    ]
    packages = format_count(len(scope.pins), "Python package")
    if failure is None:
        lines.append(f"{packages} checked: {_format_found(len(counted))}")
    else:
        lines.append(f"{packages} NOT checked")
    lines += [sanitize_line(f"not checked: {format_count(count, what)} ({why})") for what, count, why in scope.left_out]
    return lines


def _format_found(count: int) -> str:
    return f"{count} known vulnerabilit{'y' if count == 1 else 'ies'}" if count else "no known vulnerability"


def _findings(scope: Scope, advisory: Vulnerability) -> list[Finding]:
    fixed = f"take {' or '.join(advisory.fixed)} or later" if advisory.fixed else "no version without it is known"
    rule = Rule(
        id=advisory.id.lower(),
        title=advisory.summary or "a known vulnerability",
        severity=Severity.HIGH,  # uv does not pass on the severity that the service reports
        why="The advisory holds for the version that the lock pins.",
        advice=f"{fixed}: nox -s lock -- --upgrade",
        references=(advisory.id, *advisory.aliases, *([advisory.link] if advisory.link else ())),
    )
    return [
        Finding(rule=rule, what=f"{advisory.name} {advisory.version}", path=lock) for lock in _locks(scope, advisory)
    ]


def _locks(scope: Scope, advisory: Vulnerability) -> tuple[str, ...]:
    """Return the locks that pin it; the service knows versions without their local part."""
    places = [
        p
        for (name, version), p in scope.pins.items()
        if (name, version.partition("+")[0]) == (advisory.name, advisory.version)
    ]
    return tuple(sorted({lock for locks in places for lock in locks})) or ("",)
