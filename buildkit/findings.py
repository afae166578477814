"""What a check found: a value that scans and audits share, and that reports render.

Identifiers and levels follow SARIF 2.1.0 (``ruleId``, ``level``); severities are CVSS's qualitative ratings.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """How bad it is; ordered, so ``finding.severity >= Severity.HIGH`` asks whether a gate closes."""

    NOTE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A kind of finding.

    ``id`` is kebab-case and never changes; ``why`` says why it matters, ``advice`` what to do; ``references`` are
    ``CVE-…`` numbers, ``CIS Docker Benchmark 4.1`` sections, or addresses.
    """

    id: str
    title: str
    severity: Severity
    why: str
    advice: str
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found: ``what`` is a sentence about this case, ``path`` the file (of a checkout or an image).

    ``member`` leads into an archive (``weights.zip!data.pkl``'s part behind the mark), ``offset`` counts bytes in it,
    ``layer`` is the digest of the layer, where the file is in an image. ``severity`` overrides the rule's.
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
        """How bad this case is."""
        return self.rule.severity if self.override is None else self.override
