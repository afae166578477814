"""One file's scan while it runs: what was found, what could not be looked at, and the way into nested content."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from buildkit.findings import Finding, Rule, Severity
from buildkit.scan.limits import Budget, LimitError
from buildkit.scan.source import Source

UNKNOWN = "no known format of model files"  # a gap of content that no loader we know would load


class Verdict(enum.Enum):
    """What is known of a file: ``PARTIAL`` (not fully scanned) is never clean."""

    CLEAN = "clean"
    FINDINGS = "findings"
    PARTIAL = "not fully scanned"


@dataclass(frozen=True, slots=True)
class Gap:
    """A part that was not scanned, and why; ``member`` leads into archives, ``offset`` counts bytes there."""

    why: str
    member: str = ""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """The outcome for one file; ``formats`` are what was recognised in it, outermost first, each once."""

    findings: tuple[Finding, ...]
    gaps: tuple[Gap, ...]
    formats: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """Findings of at least low severity win over gaps; notes alone leave a file clean."""
        if any(finding.severity > Severity.NOTE for finding in self.findings):
            return Verdict.FINDINGS
        return Verdict.PARTIAL if self.gaps else Verdict.CLEAN


Examine = Callable[["ScanContext", Source], None]


@dataclass(slots=True)
class ScanContext:
    """Collects findings for the file ``path``; ``member`` is where in it the scan is (``a.zip!b.pkl``).

    ``examine`` recognises content and scans it: formats that hold others call ``descend`` and need not know them.
    """

    path: str
    budget: Budget
    examine: Examine
    allowed: frozenset[str] = frozenset()
    member: str = ""
    depth: int = 0
    findings: list[Finding] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    formats: dict[str, None] = field(default_factory=dict)

    def find(self, rule: Rule, what: str, *, offset: int | None = None, severity: Severity | None = None) -> None:
        """Keep a finding at the place where the scan is.

        Raises:
            LimitError: more findings than are kept.
        """
        if len(self.findings) >= self.budget.limits.findings:
            raise LimitError(f"more than {self.budget.limits.findings} findings; what else is in it is not told")
        place = {"path": self.path, "member": self.member}
        self.findings.append(Finding(rule=rule, what=what, offset=offset, override=severity, **place))

    def gap(self, why: str, *, offset: int | None = None) -> None:
        """Keep that a part could not be scanned."""
        self.gaps.append(Gap(why, self.member, offset))

    def descend(self, name: str, source: Source) -> None:
        """Scan content that lies inside: a member ``name`` of an archive, or an embedded stream.

        A limit that ends it is a gap of that member; what lies beside it is scanned all the same.
        """
        outer = self.member
        self.member = f"{outer}!{name}" if outer else name
        self.depth += 1
        try:
            if self.depth > self.budget.limits.depth:
                raise LimitError(f"nested deeper than {self.budget.limits.depth} levels")
            self.examine(self, source)
        except LimitError as error:
            self.gap(str(error))
        finally:
            self.member = outer
            self.depth -= 1

    def result(self) -> Scan:
        """What came of it; the same thing found twice at one place is said once."""
        return Scan(tuple(dict.fromkeys(self.findings)), tuple(dict.fromkeys(self.gaps)), tuple(self.formats))
