"""``nox -s audit-deps``: whether advisories are known for what the locks pin. No answer is not a pass."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.build.planner import Planner, check_stage, open_planner
from buildkit.cli.main import print_error
from buildkit.cli.options import Parser
from buildkit.errors import FetchError
from buildkit.findings import Finding, Rule, Severity
from buildkit.report.findings_table import render_findings
from buildkit.report.text import flat, format_count
from buildkit.report.view import open_view
from buildkit.tools.auditor import Vulnerability, audit

_DEBIAN = "Debian's security tracker is not asked; take newer ones: nox -s lock -- --upgrade"
CLEAN, VULNERABLE, UNCHECKED = "clean", "vulnerable", "could-not-check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is asked about: locks by name and version of what they pin; and what nobody is asked about, with why."""

    pins: dict[tuple[str, str], tuple[str, ...]]
    left_out: tuple[tuple[str, int, str], ...]


def audit_deps(folder: Path, arguments: Sequence[str]) -> int:
    """Print what is known; returns 1 for a vulnerability, and where it could not be checked. Raises DefinitionError."""
    options = _parse(arguments)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        stages = [check_stage(planner.graph, name) for name in options.stage] or list(planner.graph.stages)
        scope = find_scope(planner, stages)
        python = planner.context.project.target.minor
    found: tuple[Vulnerability, ...] = ()
    failure: FetchError | None = None
    try:
        found = audit(list(scope.pins), python, service=options.service)
    except FetchError as error:
        failure = error
    ignored = frozenset(options.ignore)
    counted = [one for one in found if not ignored & {one.id, *one.aliases}]
    if options.json:
        value = as_json(scope, found, counted, failure)
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in render(scope, found, counted, failure)))
    if failure is not None:
        print_error(failure)
    return 1 if failure or counted else 0


def find_scope(planner: Planner, stages: Iterable[str]) -> Scope:
    """What the locks of stages pin, and what else is in their images."""
    parts = {part.name: part for stage in stages for part in planner.graph.resolve(stage).parts}
    locks = dict.fromkeys(lock for part in parts.values() for lock in part.wheels)
    pins: dict[tuple[str, str], list[str]] = {}
    own: set[str] = set()
    for lock in locks:
        for artifact in planner.checkout.artifacts(lock):
            if artifact.path:
                own.add(artifact.path)
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
    )
    whole = {pin: tuple(sorted(set(places))) for pin, places in sorted(pins.items())}
    return Scope(pins=whole, left_out=tuple(row for row in left_out if row[1]))


def as_json(
    scope: Scope, found: Sequence[Vulnerability], counted: Sequence[Vulnerability], failure: FetchError | None
) -> dict[str, Any]:
    """``{"outcome", "why", "checked", "vulnerabilities", "unchecked"}``; ``outcome`` is one of the three words."""
    return {
        "outcome": UNCHECKED if failure else VULNERABLE if counted else CLEAN,
        "why": failure.message if failure else "",
        "checked": [] if failure else [{"name": n, "version": v, "locks": list(p)} for (n, v), p in scope.pins.items()],
        "vulnerabilities": [
            {
                "id": one.id,
                "aliases": list(one.aliases),
                "name": one.name,
                "version": one.version,
                "summary": one.summary,
                "fixed": list(one.fixed),
                "link": one.link,
                "locks": list(_locks(scope, one)),
                "ignored": one not in counted,
            }
            for one in found
        ],
        "unchecked": [{"what": what, "count": count, "why": why} for what, count, why in scope.left_out],
    }


def render(
    scope: Scope, found: Sequence[Vulnerability], counted: Sequence[Vulnerability], failure: FetchError | None
) -> list[str]:
    """Lines for people."""
    lines = render_findings([finding for one in counted for finding in _findings(scope, one)])
    lines += [""] if lines else []
    lines += [flat(f"ignored: {one.id} of {one.name} {one.version}") for one in found if one not in counted]
    packages = format_count(len(scope.pins), "Python package")
    if failure is None:
        lines.append(f"{packages} checked: {_say_found(len(counted))}")
    else:
        lines.append(f"{packages} NOT checked")
    lines += [flat(f"not checked: {format_count(count, what)} ({why})") for what, count, why in scope.left_out]
    return lines


def _say_found(count: int) -> str:
    return f"{count} known vulnerabilit{'y' if count == 1 else 'ies'}" if count else "no known vulnerability"


def _findings(scope: Scope, one: Vulnerability) -> list[Finding]:
    fixed = f"take {' or '.join(one.fixed)} or later" if one.fixed else "no version without it is known"
    rule = Rule(
        id=one.id.lower(),
        title=one.summary or "a known vulnerability",
        severity=Severity.HIGH,  # the service tells uv, but uv does not tell how bad it is
        why="The advisory holds for the version that the lock pins.",
        advice=f"{fixed}: nox -s lock -- --upgrade",
        references=(one.id, *one.aliases, *([one.link] if one.link else ())),
    )
    return [Finding(rule=rule, what=f"{one.name} {one.version}", path=lock) for lock in _locks(scope, one)]


def _locks(scope: Scope, one: Vulnerability) -> tuple[str, ...]:
    """Where it is pinned; the service is asked for versions without their local part."""
    places = [
        p for (name, version), p in scope.pins.items() if (name, version.partition("+")[0]) == (one.name, one.version)
    ]
    return tuple(sorted({lock for some in places for lock in some})) or ("",)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="nox -s audit-deps --")
    parser.add_argument("stage", nargs="*", metavar="STAGE", help="the locks of these stages; of all unless said")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="ID", help="an advisory to live with; repeatable"
    )
    parser.add_argument("--service", default="", metavar="URL", help="an advisory service of the OSV format")
    return parser.parse_args(list(arguments))
