"""Verdicts on model files, kept by what was in them and by what it was looked for with: a file is scanned once.

``rules`` is whatever changes when another scan could find something else. The path that a file had when it was
scanned is not kept: the same bytes elsewhere have the same verdict.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from buildkit.digest import FileHash
from buildkit.findings import Finding, Rule, Severity
from buildkit.scan import Scan, ScanGap
from buildkit.store.ledger import Ledger

_TOUCH_SECONDS = 86400


class Verdicts:
    """What a ledger knows of model files."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def find(self, hashes: Iterable[FileHash], rules: str) -> dict[FileHash, Scan]:
        """The scans of these contents under ``rules``; their findings have no path."""
        wanted = [one.hex for one in hashes]
        rows = self._ledger.whole("verdicts", "WHERE sha256 IN", tuple(wanted), also="used")
        now, found = time.time(), {}
        for sha256, known, text, _seconds, _scanned, used in rows:
            if known != rules:
                continue
            if not (isinstance(used, float) and 0 <= now - used < _TOUCH_SECONDS):
                self._ledger.write("UPDATE verdicts SET used = ? WHERE sha256 = ? AND rules = ?", (now, sha256, rules))
            scan = _parse(text)
            if scan is not None:
                found[FileHash(sha256)] = scan
        return found

    def add(self, sha256: FileHash, rules: str, scan: Scan, seconds: float) -> None:
        """Keep what a scan of this content came to."""
        now = time.time()
        self._ledger.put("verdicts", (sha256.hex, rules, _render(scan), float(seconds), now), used=now)

    def sha512(self, sha256: FileHash) -> str:
        """The other checksum of a content, as hexadecimal digits; empty where it is not known."""
        rows = self._ledger.whole("checksums", "WHERE sha256 = ?", (sha256.hex,))
        return str(rows[0][1]) if rows else ""

    def add_sha512(self, sha256: FileHash, sha512: str) -> None:
        """Keep it."""
        self._ledger.put("checksums", (sha256.hex, sha512), used=time.time())


def at_path(scan: Scan, path: str) -> Scan:
    """The same scan, of a file that is called ``path``."""
    return replace(scan, findings=tuple(replace(one, path=path) for one in scan.findings))


def _render(scan: Scan) -> str:
    rules = {one.rule.id: one.rule for one in scan.findings}
    value = {
        "rules": [_rule_row(rule) for rule in rules.values()],
        "findings": [[one.rule.id, one.what, one.member, one.offset, one.override] for one in scan.findings],
        "gaps": [[gap.why, gap.member, gap.offset] for gap in scan.gaps],
        "formats": list(scan.formats),
    }
    return json.dumps(value)  # ASCII: names in archives may be no text at all


def _rule_row(rule: Rule) -> list[Any]:
    return [rule.id, rule.title, rule.severity, rule.why, rule.advice, list(rule.references)]


def _parse(text: str) -> Scan | None:
    """None for a row that was damaged: the file is scanned again."""
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
