"""Render the results of scanning model files.

Exit codes: 0 all clean; 1 findings, or a file that was not fully scanned; 2 wrong usage, or a file that could not be
read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

from buildkit.findings import Finding
from buildkit.inspection.scan_run import ScannedFile, UnreadableFile
from buildkit.report.columns import Column, print_columns
from buildkit.report.findings_table import findings_json, format_finding_counts, render_findings
from buildkit.report.sarif import SarifRun, render_sarif
from buildkit.report.text import format_bytes, format_count, sanitize_line
from buildkit.scan import Verdict

_COLUMNS = (
    Column(title="file"),
    Column(title="verdict"),
    Column(title="size", right=True),
    Column(title="format", extra=True),
    Column(title="sha256", extra=True),
)

Outcome = ScannedFile | UnreadableFile


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return the exit code for the results of all files."""
    if any(isinstance(outcome, UnreadableFile) for outcome in outcomes):
        return 2
    return int(
        any(outcome.judgement.verdict is not Verdict.CLEAN for outcome in outcomes if isinstance(outcome, ScannedFile))
    )


def print_outcomes(outcomes: Sequence[Outcome], out: TextIO) -> None:
    """Print a line for each file, the findings with what to do, and the totals."""
    print_columns(_COLUMNS, [_row(outcome) for outcome in outcomes], out)
    findings = [finding for outcome in _scanned(outcomes) for finding in outcome.judgement.findings]
    if findings:
        out.write("\n" + "\n".join(render_findings(findings)) + "\n\n")
    pairs = [pair for outcome in _scanned(outcomes) for pair in outcome.judgement.accepted]
    lines = (f"accepted: {finding.path}: {finding.rule.id}: {finding.what} ({reason})" for finding, reason in pairs)
    out.writelines(f"{sanitize_line(line)}\n" for line in lines)
    out.write(f"{render_sum(outcomes)}\n")


def render_sum(outcomes: Sequence[Outcome]) -> str:
    """Return ``3 files: 2 clean, 1 with findings; 2 findings (1 critical, 1 note)``."""
    if not outcomes:
        return "no model files: no stage names any, and nothing else was asked for"
    counts = Counter(_verdict(outcome) for outcome in outcomes)
    parts = ", ".join(f"{counts[word]} {_WORDS.get(word, word)}" for word in _ORDER if counts[word])
    findings = [finding for outcome in _scanned(outcomes) for finding in outcome.judgement.findings]
    cached = sum(outcome.cached for outcome in _scanned(outcomes))
    tail = f"; {cached} known from before" if cached else ""
    return f"{format_count(len(outcomes), 'file')}: {parts}; {format_finding_counts(findings)}{tail}"


_ORDER = ("clean", "findings", "not fully scanned", "unreadable")
_WORDS = {"findings": "with findings"}


def _verdict(outcome: Outcome) -> str:
    return "unreadable" if isinstance(outcome, UnreadableFile) else outcome.judgement.verdict.value


def _row(outcome: Outcome) -> tuple[str, ...]:
    if isinstance(outcome, UnreadableFile):
        return outcome.target.name, "unreadable", "", outcome.why, ""
    formats, sha256 = ", ".join(outcome.judgement.formats), outcome.judgement.sha256.hex[:12]
    return outcome.target.name, _verdict(outcome), format_bytes(outcome.size), formats, sha256


def _scanned(outcomes: Sequence[Outcome]) -> list[ScannedFile]:
    return [outcome for outcome in outcomes if isinstance(outcome, ScannedFile)]


def scan_as_json(outcomes: Sequence[Outcome], rules: str) -> dict[str, Any]:
    """Return the form that docs/scanning.md describes."""
    return {
        "rules": rules,
        "files": [_file_json(outcome) for outcome in _scanned(outcomes)],
        "unreadable": [
            {"path": outcome.target.name, "why": outcome.why}
            for outcome in outcomes
            if isinstance(outcome, UnreadableFile)
        ],
        "exit_code": exit_code(outcomes),
    }


def _file_json(scanned: ScannedFile) -> dict[str, Any]:
    judgement, locked = scanned.judgement, scanned.target.locked
    return {
        "path": scanned.target.name,
        "size": scanned.size,
        "sha256": judgement.sha256.hex,
        "sha512": scanned.sha512,
        "locked": locked.hex if locked is not None else None,
        "verdict": judgement.verdict.value,
        "formats": list(judgement.formats),
        "findings": findings_json(judgement.findings),
        "accepted": [
            {**entry, "reason": reason} for finding, reason in judgement.accepted for entry in findings_json((finding,))
        ],
        "opinions": [
            {
                "engine": opinion.engine.name,
                "version": opinion.engine.version,
                "unsafe": opinion.unsafe,
                "why": opinion.why,
            }
            for opinion in scanned.opinions
        ],
        "cached": scanned.cached,
        "seconds": scanned.seconds,
    }


def scan_as_sarif(outcomes: Sequence[Outcome]) -> str:
    """Return all findings as SARIF 2.1.0, the accepted ones suppressed with their reasons."""
    findings: list[Finding] = []
    accepted: dict[Finding, str] = {}
    hashes: dict[str, dict[str, str]] = {}
    for scanned in _scanned(outcomes):
        accepted.update(scanned.judgement.accepted)
        findings += [*scanned.judgement.findings, *(finding for finding, _ in scanned.judgement.accepted)]
        hashes[scanned.target.name] = {"sha-256": scanned.judgement.sha256.hex, "sha-512": scanned.sha512}
    return render_sarif(findings, SarifRun.of("scan-models", hashes=hashes, accepted=accepted))
