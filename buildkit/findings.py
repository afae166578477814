"""Findings: values that scans and audits share, and that reports render.

Identifiers and levels follow SARIF 2.1.0 (``ruleId``, ``level``); severities are CVSS's qualitative ratings.
"""

from __future__ import annotations

import enum

from buildkit.lazy_dataclass import dataclass


class Severity(enum.IntEnum):
    """How bad a finding is; ordered, so that ``finding.severity >= Severity.HIGH`` decides whether a gate closes."""

    NOTE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A kind of finding.

    ``id`` is kebab-case and never changes; ``why`` explains why it matters, ``advice`` what to do; ``references`` are
    ``CVE-…`` numbers, ``CIS Docker Benchmark 4.1`` sections, or URLs.
    """

    id: str
    title: str
    severity: Severity
    why: str
    advice: str
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding: ``what`` describes this case, ``path`` is the file (of a checkout or an image).

    ``member`` is the path into an archive (``data.pkl`` of ``weights.zip!data.pkl``), ``offset`` counts bytes in it,
    and ``layer`` is the digest of the layer, if the file is in an image. ``override`` replaces the rule's severity.
    """

    rule: Rule
    what: str
    path: str
    member: str = ""
    offset: int | None = None
    layer: str = ""
    override: Severity | None = None

    @property
    def severity(self) -> Severity:
        """Severity of this case."""
        return self.rule.severity if self.override is None else self.override
