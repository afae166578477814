"""The result of one file's scan: findings, gaps and the verdict that follows from them."""

from __future__ import annotations

import enum

from buildkit.findings import Finding, Severity
from buildkit.lazy_dataclass import dataclass

UNKNOWN_CONTENT = "no known format of model files"  # the gap of content that no known loader would load


class Verdict(enum.Enum):
    """The result for a file; ``PARTIAL`` (not fully scanned) is never clean."""

    CLEAN = "clean"
    FINDINGS = "findings"
    PARTIAL = "not fully scanned"


@dataclass(frozen=True, slots=True)
class ScanGap:
    """A part that was not scanned, and why; ``member`` is the path into archives, ``offset`` counts bytes there."""

    why: str
    member: str = ""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """The result for one file; ``formats`` are those recognised in it, outermost first, each once."""

    findings: tuple[Finding, ...]
    gaps: tuple[ScanGap, ...]
    formats: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """Findings of at least low severity win over gaps; notes alone leave a file clean."""
        if any(finding.severity > Severity.NOTE for finding in self.findings):
            return Verdict.FINDINGS
        return Verdict.PARTIAL if self.gaps else Verdict.CLEAN
