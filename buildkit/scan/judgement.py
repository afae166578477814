"""Judge a scan for the user: findings that are accepted are set aside, and a gate closes or not."""

from __future__ import annotations

from buildkit.declare.model_allowlist import ModelAllowlist
from buildkit.digest import FileHash
from buildkit.findings import Finding, Rule, Severity
from buildkit.lazy_dataclass import dataclass
from buildkit.scan.result import UNKNOWN_CONTENT, Scan, ScanGap, Verdict

NOT_SCANNED = Rule(
    id="not-fully-scanned",
    title="A part of the file could not be scanned",
    severity=Severity.MEDIUM,
    why="What was not scanned may hold anything; a file is clean only if all of it was understood.",
    advice="Get it in a format that can be scanned (safetensors, ONNX), or inspect it and accept it in the allow-file.",
)
DIFFERS_FROM_LOCK = Rule(
    id="differs-from-lock",
    title="The file differs from the one in the lock",
    severity=Severity.HIGH,
    why="It was changed after it was locked: what was reviewed is not what would be shipped.",
    advice="Restore it, or run: nox -s lock, if the change is intended.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A file's findings, gaps included; ``accepted`` are those that the user accepts, each with its reason.

    ``unknown`` means that all gaps are content of no known format.
    """

    sha256: FileHash
    findings: tuple[Finding, ...]
    accepted: tuple[tuple[Finding, str], ...]
    formats: tuple[str, ...]
    unknown: bool

    @property
    def verdict(self) -> Verdict:
        """Findings of at least low severity outweigh gaps; accepted findings do not count."""
        open_rules = [finding.rule.id for finding in self.findings if finding.severity > Severity.NOTE]
        if any(rule != NOT_SCANNED.id for rule in open_rules):
            return Verdict.FINDINGS
        return Verdict.PARTIAL if open_rules else Verdict.CLEAN

    def is_refused(self, policy: str) -> bool:
        """Return whether the file must not become a layer.

        ``policy`` decides about files that were not fully scanned: ``refuse``, ``warn``, or ``refuse-known``, which
        accepts content of no known format.
        """
        verdict = self.verdict
        if verdict is Verdict.PARTIAL:
            return policy == "refuse" or (policy == "refuse-known" and not self.unknown)
        return verdict is Verdict.FINDINGS


def judge(scan: Scan, path: str, sha256: FileHash, allow: ModelAllowlist, more: tuple[Finding, ...] = ()) -> Judgement:
    """Judge a scan of the file ``path`` by what the user allows; ``more`` are findings from other checks."""
    gaps = (*scan.gaps, *_find_false_name(scan, path))
    findings = (*scan.findings, *more, *(_find_gap(gap, path) for gap in gaps))
    keys = {finding: (finding.rule.id, sha256) for finding in findings}
    reasons = {finding: allow.accepted[key] for finding, key in keys.items() if key in allow.accepted}
    return Judgement(
        sha256=sha256,
        findings=tuple(finding for finding in findings if finding not in reasons),
        accepted=tuple(reasons.items()),
        formats=scan.formats,
        unknown=all(gap.why == UNKNOWN_CONTENT for gap in gaps),
    )


def is_clean(scan: Scan, path: str) -> bool:
    """Return whether `judge` finds nothing, whatever the user allows: the usual case, thousands of times in a build."""
    return not (scan.findings or scan.gaps or _find_false_name(scan, path))


def _find_false_name(scan: Scan, path: str) -> tuple[ScanGap, ...]:
    """Return a gap for a file that is named as a pickle but looks like text, which no loader asks."""
    from buildkit.scan.unread import PICKLE_NAMES

    if path.lower().rpartition(".")[2] not in PICKLE_NAMES or not scan.formats or set(scan.formats) - {"text", "JSON"}:
        return ()
    return (ScanGap("it is named as a pickle, but it is text"),)


def _find_gap(gap: ScanGap, path: str) -> Finding:
    """Return a gap as a finding; unknown content with the name of an archive or of code is more than a gap."""
    rule, what = NOT_SCANNED, gap.why
    if gap.why == UNKNOWN_CONTENT:
        from buildkit.scan.unread import find_kind_of_name

        if kind := find_kind_of_name(path, gap.member):
            rule, what = kind[0], f"{gap.why}, and its name says that it is {kind[1]}"
    return Finding(rule=rule, what=what, path=path, member=gap.member, offset=gap.offset)
