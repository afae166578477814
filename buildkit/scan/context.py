"""The state of one file's scan, and the recursion into nested content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from buildkit.findings import Finding, Rule, Severity
from buildkit.scan.limits import LimitError, ScanBudget
from buildkit.scan.result import UNKNOWN_CONTENT, Scan, ScanGap
from buildkit.scan.source import ScanSource

HEAD = 4096  # bytes that formats are recognised by


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    ``recognise`` gets the first ``HEAD`` bytes and the whole content; ``scan`` reports to the context. ``is_archive``
    marks formats that only hold other content.
    """

    name: str
    recognise: Callable[[bytes, ScanSource], bool]
    scan: Callable[[ScanContext, ScanSource], None]
    is_archive: bool = False


@dataclass(slots=True)
class ScanContext:
    """Collect the findings of the file ``path``; ``member`` is the current position in it (``a.zip!b.pkl``).

    ``registry`` lists every format. Formats that hold other content call ``descend`` and need not know which formats
    exist.
    """

    path: str
    budget: ScanBudget
    registry: tuple[Format, ...]
    allowed: frozenset[str] = frozenset()
    member: str = ""
    depth: int = 0
    findings: list[Finding] = field(default_factory=list)
    gaps: list[ScanGap] = field(default_factory=list)
    formats: dict[str, None] = field(default_factory=dict)

    def find(self, rule: Rule, what: str, *, offset: int | None = None, severity: Severity | None = None) -> None:
        """Record a finding at the current position.

        Raises:
            LimitError: there are more findings than are kept.
        """
        if len(self.findings) >= self.budget.limits.findings:
            raise LimitError(f"more than {self.budget.limits.findings} findings; the rest is not reported")
        position = {"path": self.path, "member": self.member}
        self.findings.append(Finding(rule=rule, what=what, offset=offset, override=severity, **position))

    def gap(self, why: str, *, offset: int | None = None) -> None:
        """Record that a part could not be scanned."""
        self.gaps.append(ScanGap(why, self.member, offset))

    def examine(self, source: ScanSource) -> None:
        """Scan ``source`` as every format that recognises it; unrecognised content is a gap.

        Content may be of several formats (a polyglot), and each of them scans it.

        Raises:
            LimitError: the budget is used up.
        """
        head = source.read(0, HEAD)
        recognised = [candidate for candidate in self.registry if candidate.recognise(head, source)]
        for candidate in recognised:
            self.formats[candidate.name] = None
            candidate.scan(self, source)
        if not recognised and source.size:
            self.gap(UNKNOWN_CONTENT)

    def is_archive(self, source: ScanSource) -> bool:
        """Return whether ``source`` is an archive or a compressed stream."""
        head = source.read(0, HEAD)
        return any(candidate.is_archive and candidate.recognise(head, source) for candidate in self.registry)

    def descend(self, name: str, source: ScanSource) -> None:
        """Scan nested content: the member ``name`` of an archive, or an embedded stream.

        A limit that ends the scan of this member is a gap of the member; its siblings are still scanned.
        """
        outer = self.member
        self.member = f"{outer}!{name}" if outer else name
        self.depth += 1
        try:
            if self.depth > self.budget.limits.depth:
                raise LimitError(f"nested deeper than {self.budget.limits.depth} levels")
            self.examine(source)
        except LimitError as error:
            self.gap(str(error))
        finally:
            self.member = outer
            self.depth -= 1

    def result(self) -> Scan:
        """Return the result, without duplicates."""
        return Scan(tuple(dict.fromkeys(self.findings)), tuple(dict.fromkeys(self.gaps)), tuple(self.formats))
