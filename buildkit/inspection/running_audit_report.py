"""An audit of running containers as JSON, as SARIF, as text, and as lines of a screen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from buildkit.findings import Finding, Severity
from buildkit.inspection.running_audit import AuditedContainer, RunningAudit
from buildkit.report.findings_table import (
    findings_json,
    format_finding_counts,
    format_severity,
    render_findings,
    sort_worst_first,
)
from buildkit.report.text import format_count, format_date, sanitize_line

_STYLES = {Severity.CRITICAL: "bold red", Severity.HIGH: "red", Severity.MEDIUM: "yellow"}
_KEYS = ("container", "rule", "severity", "title", "what", "path", "why", "advice", "references")
_Line = tuple[str, str]


def audit_as_json(audit: RunningAudit, interval: float | None) -> dict[str, Any]:
    """Return the form that docs/runtime-security.md describes; ``interval`` is None for a single look."""
    return {
        "format": 1,
        "time": audit.time,
        "interval": interval,
        "complete": audit.complete,
        "problems": list(audit.problems),
        "containers": [
            {
                "name": one.name,
                "id": one.id,
                "image": one.image,
                "stage": one.stage or None,
                "complete": one.verdict.complete,
            }
            for one in audit.containers
        ],
        "findings": [_entry(one, finding) for one in audit.containers for finding in _worst(one)],
        "accepted": [
            {**_entry(one, finding), "reason": reason}
            for one in audit.containers
            for finding, reason in one.verdict.accepted
        ],
    }


def _worst(one: AuditedContainer) -> list[Finding]:
    return sort_worst_first(one.verdict.findings)


def _entry(one: AuditedContainer, finding: Finding) -> dict[str, Any]:
    values = {"container": one.name, **findings_json((finding,))[0]}
    return {key: values[key] for key in _KEYS}


def audit_as_sarif(audit: RunningAudit) -> str:
    """Return a log of SARIF 2.1.0 with a run for each container; what the podman did not tell is a failed run."""
    from buildkit.report.sarif import SarifRun, sarif_log

    runs: list[Any] = []
    log: dict[str, Any] = {}
    for one in audit.containers or (None,):
        name = one.name if one else ""
        accepted = dict(one.verdict.accepted) if one else {}
        run = SarifRun.of(
            f"audit-running/{name}" if name else "audit-running",
            base="CONTAINER",
            base_description="the root of the container's file system",
            inside=True,
            subject=name,
            accepted=accepted,
            complete=not audit.problems and (one is None or one.verdict.complete),
        )
        log = sarif_log((*(one.verdict.findings if one else ()), *accepted), run)
        runs += log["runs"]
    return json.dumps({**log, "runs": runs}, indent=2) + "\n"


def render_running_audit(audit: RunningAudit, gate: Severity | None) -> list[str]:
    """Return lines: each container's findings with reasons, what is accepted, what was not examined, and the total."""
    lines: list[str] = []
    for one in audit.containers:
        lines += [*([""] if lines else []), _format_head(one), *render_findings(one.verdict.findings)]
        lines += [
            f"accepted: {finding.rule.id}: {sanitize_line(finding.what)} ({sanitize_line(reason)})"
            for finding, reason in one.verdict.accepted
        ]
    lines += [f"not examined: {sanitize_line(problem)}" for problem in audit.problems]
    lines += [""] * bool(lines)
    lines.append(_format_total(audit, gate))
    return lines


def _format_head(one: AuditedContainer) -> str:
    stage = f", stage {one.stage}" if one.stage else ""
    return sanitize_line(f"{one.name} ({one.image}{stage}): {format_finding_counts(one.verdict.findings)}")


def _format_total(audit: RunningAudit, gate: Severity | None) -> str:
    counts = f"{format_count(len(audit.containers), 'container')}, {format_finding_counts(audit.findings)}"
    if not audit.complete:
        return f"{counts}: fails, for not everything could be examined"
    if gate is not None and audit.closes(gate):
        return f"{counts}: fails, for {format_severity(gate)} and worse do"
    return counts


def screen_lines(audit: RunningAudit, height: int) -> list[_Line]:
    """Return lines with styles for a screen, the worst findings first; the last one counts those without room."""
    head = f"{format_date(audit.time)}  {_format_total(audit, None)}"
    lines = [(head, "bold" if audit.complete else "bold red"), *_rows(audit)]
    if len(lines) > height:
        lines = [*lines[: height - 1], (f"… {format_count(len(lines) - height + 1, 'line')} more", "dim")]
    return lines


def _rows(audit: RunningAudit) -> Iterator[_Line]:
    yield from ((f"not examined: {sanitize_line(problem)}", "red") for problem in audit.problems)
    found = [(finding, one) for one in audit.containers for finding in one.verdict.findings]
    for finding, one in sorted(found, key=lambda row: (-row[0].severity, row[1].name, row[0].rule.id)):
        text = sanitize_line(f"{one.name}: {finding.rule.id}: {finding.what}")
        yield f"{format_severity(finding.severity):<9} {text}", _STYLES.get(finding.severity, "")
    for one in audit.containers:
        if not one.verdict.findings:
            yield f"{'clean':<9} {sanitize_line(one.name)}", "green"
