"""Verdicts on model files, kept by content and by the version of the rules: a file is scanned once.

``rules`` changes whenever another scan could find something else. The path of a scanned file is not kept: the same
bytes at another path have the same verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from buildkit.digest import FileHash, Key
from buildkit.findings import Finding, Rule, Severity
from buildkit.scan import Scan, ScanGap
from buildkit.store.ledger import Ledger


class ScanVerdicts:
    """The scans that a ledger knows."""

    def __init__(self, ledger: Ledger) -> None:
        self._verdicts = ledger.verdicts

    def find(self, hashes: Iterable[FileHash], rules: str) -> dict[FileHash, Scan]:
        """Return the scans of these contents under ``rules``; their findings have no path."""
        scans = {FileHash(row.sha256): parse_scan(row.scan) for row in self._verdicts.find(hashes, rules)}
        return {sha256: scan for sha256, scan in scans.items() if scan is not None}

    def add(self, sha256: FileHash, rules: str, scan: Scan, seconds: float) -> None:
        """Record the scan of a content."""
        self._verdicts.add(sha256, rules, render_scan(scan), seconds)


def rules_of_builder(rules: str, key: Key) -> str:
    """Return what a scan by the builder of a reused layer is kept under, which is believed of that layer alone."""
    return f"{rules} of {key.hex}"


def at_path(scan: Scan, path: str) -> Scan:
    """Return the same scan with findings at ``path``."""
    return replace(scan, findings=tuple(replace(finding, path=path) for finding in scan.findings))


def render_scan(scan: Scan) -> str:
    """Return a scan as the JSON of a row."""
    rules = {finding.rule.id: finding.rule for finding in scan.findings}
    value = {
        "rules": [_rule_row(rule) for rule in rules.values()],
        "findings": [[item.rule.id, item.what, item.member, item.offset, item.override] for item in scan.findings],
        "gaps": [[gap.why, gap.member, gap.offset] for gap in scan.gaps],
        "formats": list(scan.formats),
    }
    return json.dumps(value)  # ASCII: names in archives may not be valid text


def _rule_row(rule: Rule) -> list[Any]:
    return [rule.id, rule.title, rule.severity, rule.why, rule.advice, list(rule.references)]


@lru_cache(maxsize=64)  # thousands of files have equal scans
def parse_scan(text: str) -> Scan | None:
    """Parse what `render_scan` wrote; None for a damaged row: the file is scanned again."""
    try:
        value = json.loads(text)
        rules = {
            row[0]: Rule(
                id=row[0],
                title=row[1],
                severity=Severity(row[2]),
                why=row[3],
                advice=row[4],
                references=tuple(row[5]),
            )
            for row in value["rules"]
        }
        findings = tuple(
            Finding(
                rule=rules[rule],
                what=what,
                path="",
                member=member,
                offset=offset,
                override=None if override is None else Severity(override),
            )
            for rule, what, member, offset, override in value["findings"]
        )
        gaps = tuple(ScanGap(*row) for row in value["gaps"])
        return Scan(findings, gaps, tuple(value["formats"]))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
