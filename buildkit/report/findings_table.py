"""Findings for people and as JSON: where, what, why it matters, what to do, and where that is written."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from buildkit.findings import Finding, Rule, Severity
from buildkit.report.columns import Column
from buildkit.report.text import flat, format_count

COLUMNS = (
    Column(title="severity"),
    Column(title="rule"),
    Column(title="where"),
    Column(title="what"),
    Column(title="see", extra=True),
)
_INDENT = "          "


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """In the order in which people want them: severity, rule, place."""
    return sorted(findings, key=lambda one: (-one.severity, one.rule.id, one.path, one.member, one.offset or 0))


def findings_rows(findings: Iterable[Finding]) -> list[tuple[str, ...]]:
    """A row of each finding for ``report.columns`` under ``COLUMNS``, the worst first."""
    return [
        (say_severity(one.severity), one.rule.id, say_where(one), flat(one.what), ", ".join(one.rule.references))
        for one in worst_first(findings)
    ]


def render_findings(findings: Iterable[Finding], width: int = 110) -> list[str]:
    """Lines: findings of a rule together, the worst first, and below them why it matters and what to do."""
    groups: dict[str, list[Finding]] = {}
    for one in worst_first(findings):
        groups.setdefault(one.rule.id, []).append(one)
    lines: list[str] = []
    for name, group in groups.items():
        worst, rule = group[0].severity, group[0].rule
        lines += ["", f"{say_severity(worst):<10}{flat(name)}: {flat(rule.title)}"]
        for one in group:
            where, milder = say_where(one), "" if one.severity is worst else f" ({say_severity(one.severity)})"
            lines.append(f"{_INDENT}{f'{where}: ' if where else ''}{flat(one.what)}{milder}")
        lines += _advice(rule, width)
    return lines[1:]


def findings_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """``{"rule", "severity", "title", "what", "path", "member", "offset", "layer", "why", "advice", "references"}``.

    ``offset`` is in bytes, or null; texts are as they were found: ``json.dumps`` writes them in ASCII.
    """
    return [
        {
            "rule": one.rule.id,
            "severity": say_severity(one.severity),
            "title": one.rule.title,
            "what": one.what,
            "path": one.path,
            "member": one.member,
            "offset": one.offset,
            "layer": one.layer,
            "why": one.rule.why,
            "advice": one.rule.advice,
            "references": list(one.rule.references),
        }
        for one in worst_first(findings)
    ]


def say_counts(findings: Sequence[Finding]) -> str:
    """``3 findings (1 critical, 2 low)``; ``no findings``."""
    if not findings:
        return "no findings"
    counts = Counter(one.severity for one in findings)
    parts = [f"{counts[severity]} {say_severity(severity)}" for severity in sorted(counts, reverse=True)]
    return f"{format_count(len(findings), 'finding')} ({', '.join(parts)})"


def say_severity(severity: Severity) -> str:
    """``critical`` … ``note``."""
    return severity.name.lower()


def parse_severity(text: str) -> Severity:
    """The reverse; raises ValueError with the words that there are."""
    try:
        return Severity[text.upper()]
    except KeyError:
        raise ValueError(f"not one of {', '.join(map(say_severity, Severity))}: {text!r}") from None


def say_where(finding: Finding) -> str:
    """``models/x.pt!archive/data.pkl, byte 14``, ``etc/passwd in layer 0123456789ab``; empty for the whole."""
    inside = f"!{finding.member}" if finding.member else ""
    at = "" if finding.offset is None else f", byte {finding.offset}"
    layer = f" in layer {finding.layer.removeprefix('sha256:')[:12]}" if finding.layer else ""
    return flat(f"{finding.path}{inside}{at}{layer}").strip()


def _advice(rule: Rule, width: int) -> list[str]:
    parts = (("why", rule.why), ("do", rule.advice), ("see", ", ".join(rule.references)))
    lines = []
    for word, text in parts:
        if text:
            first, rest = f"{_INDENT}{word + ':':<5}", f"{_INDENT}     "
            lines += textwrap.wrap(
                flat(text), max(width, 40), initial_indent=first, subsequent_indent=rest,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    return lines
