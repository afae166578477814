"""Findings for people and as JSON: place, problem, why it matters, what to do, and references."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from buildkit.findings import Finding, Rule, Severity
from buildkit.report.text import format_count, sanitize_line

_INDENT, _WIDTH = "          ", 110


def sort_worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort by severity, rule and place."""
    return sorted(
        findings,
        key=lambda finding: (-finding.severity, finding.rule.id, finding.path, finding.member, finding.offset or 0),
    )


def render_findings(findings: Iterable[Finding]) -> list[str]:
    """Return lines: findings grouped by rule, the worst first, with why they matter and what to do."""
    groups: dict[str, list[Finding]] = {}
    for finding in sort_worst_first(findings):
        groups.setdefault(finding.rule.id, []).append(finding)
    lines: list[str] = []
    for name, group in groups.items():
        worst, rule = group[0].severity, group[0].rule
        lines += ["", f"{format_severity(worst):<10}{sanitize_line(name)}: {sanitize_line(rule.title)}"]
        for finding in group:
            where, milder = (
                format_location(finding),
                "" if finding.severity is worst else f" ({format_severity(finding.severity)})",
            )
            lines.append(f"{_INDENT}{f'{where}: ' if where else ''}{sanitize_line(finding.what)}{milder}")
        lines += _advice(rule)
    return lines[1:]


def findings_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return the findings as JSON values, the worst first.

    Each is ``{"rule", "severity", "title", "what", "path", "member", "offset", "layer", "why", "advice",
    "references"}``; ``offset`` is in bytes, or null. Texts are unchanged: ``json.dumps`` writes them in ASCII.
    """
    return [
        {
            "rule": finding.rule.id,
            "severity": format_severity(finding.severity),
            "title": finding.rule.title,
            "what": finding.what,
            "path": finding.path,
            "member": finding.member,
            "offset": finding.offset,
            "layer": finding.layer,
            "why": finding.rule.why,
            "advice": finding.rule.advice,
            "references": list(finding.rule.references),
        }
        for finding in sort_worst_first(findings)
    ]


def format_finding_counts(findings: Sequence[Finding]) -> str:
    """Return ``3 findings (1 critical, 2 low)`` or ``no findings``."""
    if not findings:
        return "no findings"
    counts = Counter(finding.severity for finding in findings)
    parts = [f"{counts[severity]} {format_severity(severity)}" for severity in sorted(counts, reverse=True)]
    return f"{format_count(len(findings), 'finding')} ({', '.join(parts)})"


def format_severity(severity: Severity) -> str:
    """Return ``critical`` … ``note``."""
    return severity.name.lower()


def parse_severity(text: str) -> Severity:
    """Return the severity of a name; raises ValueError that lists the names."""
    try:
        return Severity[text.upper()]
    except KeyError:
        raise ValueError(f"not one of {', '.join(map(format_severity, Severity))}: {text!r}") from None


def format_location(finding: Finding) -> str:
    """Return ``models/x.pt!archive/data.pkl, byte 14`` or ``etc/passwd in layer 0123456789ab``; empty if unknown."""
    inside = f"!{finding.member}" if finding.member else ""
    at = "" if finding.offset is None else f", byte {finding.offset}"
    layer = f" in layer {finding.layer.removeprefix('sha256:')[:12]}" if finding.layer else ""
    return sanitize_line(f"{finding.path}{inside}{at}{layer}").strip()


def _advice(rule: Rule) -> list[str]:
    parts = (("why", rule.why), ("do", rule.advice), ("see", ", ".join(rule.references)))
    lines = []
    for word, text in parts:
        if text:
            first, rest = f"{_INDENT}{word + ':':<5}", f"{_INDENT}     "
            lines += textwrap.wrap(
                sanitize_line(text), _WIDTH, initial_indent=first, subsequent_indent=rest,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    return lines
