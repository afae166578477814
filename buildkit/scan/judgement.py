"""What a scan means for a user: findings less those that are accepted, and whether a gate closes."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.declare.model_allowlist import Allow
from buildkit.digest import FileHash
from buildkit.findings import Finding, Rule, Severity
from buildkit.scan.context import UNKNOWN_CONTENT, Scan, Verdict

NOT_SCANNED = Rule(
    id="not-fully-scanned",
    title="A part of the file could not be scanned",
    severity=Severity.MEDIUM,
    why="What was not looked at may hold anything; a file is clean only if all of it was understood.",
    advice="Get it in a format that can be scanned (safetensors, ONNX), or look at it and accept it in the allow-file.",
)
DIFFERS_FROM_LOCK = Rule(
    id="differs-from-lock",
    title="The file is not the one that the lock names",
    severity=Severity.HIGH,
    why="Somebody changed it after it was locked: what was reviewed is not what would be shipped.",
    advice="Restore it, or run: nox -s lock, if the change is meant.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A file's findings, gaps among them; ``accepted`` are those of them that the user lives with, and why.

    ``unknown`` says that all that is open is content of no format that is known.
    """

    sha256: FileHash
    findings: tuple[Finding, ...]
    accepted: tuple[tuple[Finding, str], ...]
    formats: tuple[str, ...]
    unknown: bool

    @property
    def verdict(self) -> Verdict:
        """Findings of at least low severity win over gaps; what is accepted counts for none."""
        open_rules = [one.rule.id for one in self.findings if one.severity > Severity.NOTE]
        if any(rule != NOT_SCANNED.id for rule in open_rules):
            return Verdict.FINDINGS
        return Verdict.PARTIAL if open_rules else Verdict.CLEAN

    def is_refused(self, policy: str) -> bool:
        """Whether it may not become a layer.

        ``policy`` is what is done about files that were not fully scanned: ``refuse``, ``warn``, or ``refuse-known``,
        which lets through content that none of the formats is.
        """
        verdict = self.verdict
        if verdict is Verdict.PARTIAL:
            return policy == "refuse" or (policy == "refuse-known" and not self.unknown)
        return verdict is Verdict.FINDINGS


def judge(scan: Scan, path: str, sha256: FileHash, allow: Allow, more: tuple[Finding, ...] = ()) -> Judgement:
    """Hold a scan of the file ``path`` against what the user allows; ``more`` was found otherwise."""
    gaps = [Finding(rule=NOT_SCANNED, what=g.why, path=path, member=g.member, offset=g.offset) for g in scan.gaps]
    findings = (*scan.findings, *more, *gaps)
    reasons = {one: allow.accepted[one.rule.id, sha256] for one in findings if (one.rule.id, sha256) in allow.accepted}
    return Judgement(
        sha256=sha256,
        findings=tuple(one for one in findings if one not in reasons),
        accepted=tuple(reasons.items()),
        formats=scan.formats,
        unknown=all(gap.why == UNKNOWN_CONTENT for gap in scan.gaps),
    )
