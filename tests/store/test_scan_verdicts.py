"""Verdicts are kept across processes, paths and odd names, and end with the version of their rules."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from buildkit.digest import FileHash
from buildkit.findings import Finding, Rule, Severity
from buildkit.scan import Scan, ScanGap, Verdict
from buildkit.store import schema
from buildkit.store.ledger import Ledger
from buildkit.store.maintenance import LedgerMaintenance, RetainedRows
from buildkit.store.scan_verdicts import ScanVerdicts, at_path

ONE, TWO = FileHash.of(b"1"), FileHash.of(b"2")
RULE = Rule(id="r", title="t", severity=Severity.HIGH, why="w", advice="a", references=("CVE-1-2",))
SCAN = Scan(
    findings=(
        Finding(rule=RULE, what="x", path="", member="a!b\udcff", offset=3),
        Finding(rule=RULE, what="y", path="", override=Severity.NOTE),
    ),
    gaps=(ScanGap("too deep", "a!c", None),),
    formats=("zip", "pickle"),
)


def change(ledger: Ledger, statement: str) -> None:
    with closing(sqlite3.connect(ledger.database.path)) as db, db:
        db.execute(statement)


def test_scan_is_found_unchanged(ledger: Ledger) -> None:
    verdicts = ScanVerdicts(ledger)
    verdicts.add(ONE, "v1", SCAN, 0.5)
    assert verdicts.find([ONE, TWO], "v1") == {ONE: SCAN}
    assert ScanVerdicts(ledger).find([ONE], "v1")[ONE].verdict is Verdict.FINDINGS


def test_scan_is_found_only_under_its_rules(ledger: Ledger) -> None:
    verdicts = ScanVerdicts(ledger)
    verdicts.add(ONE, "v1", SCAN, 0.5)
    assert verdicts.find([ONE], "v2") == {}
    verdicts.add(ONE, "v2", Scan((), (), ()), 0.5)
    assert verdicts.find([ONE], "v1") == {ONE: SCAN}, "who goes back has what was known"


def test_findings_get_the_path_of_the_request(ledger: Ledger) -> None:
    ScanVerdicts(ledger).add(ONE, "v", at_path(SCAN, "old/path"), 0.1)
    found = at_path(ScanVerdicts(ledger).find([ONE], "v")[ONE], "new/path")
    assert {one.path for one in found.findings} == {"new/path"}


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"rules": [], "findings": [["r","",1,1,1]], "gaps": [], "formats": []}']
)
def test_unparsable_verdict_counts_as_absent(ledger: Ledger, text: str) -> None:
    ScanVerdicts(ledger).add(ONE, "v", SCAN, 0.1)
    change(ledger, f"UPDATE verdicts SET scan = '{text}'")
    assert ScanVerdicts(ledger).find([ONE], "v") == {}


@pytest.mark.parametrize("change_", [
    f"sha256 = '{TWO.hex}'", "rules = 'v2'", "scan = replace(scan, '\"w\", \"a\"', '\"w\", \"b\"')", "sum = ''",
    """scan = '{"rules": [], "findings": [], "gaps": [], "formats": []}'""",
])  # fmt: skip
def test_altered_verdict_counts_as_absent(ledger: Ledger, change_: str) -> None:
    ScanVerdicts(ledger).add(ONE, "v", SCAN, 1)
    assert ScanVerdicts(ledger).find([ONE], "v") == {ONE: SCAN}
    change(ledger, f"UPDATE verdicts SET {change_}")
    assert ScanVerdicts(ledger).find([ONE, TWO], "v") == {}
    assert ScanVerdicts(ledger).find([ONE, TWO], "v2") == {}


def test_altered_checksum_counts_as_absent(ledger: Ledger) -> None:
    ledger.checksums.add(ONE, "ab")
    change(ledger, "UPDATE checksums SET sha512 = 'aa'")
    assert ledger.checksums.find(ONE) == ""


def test_checksum_is_found_by_content(ledger: Ledger) -> None:
    assert ledger.checksums.find(ONE) == ""
    ledger.checksums.add(ONE, "ab")
    assert ledger.checksums.find(ONE) == "ab"


def test_prune_deletes_verdicts_unused_for_half_a_year(ledger: Ledger) -> None:
    verdicts = ScanVerdicts(ledger)
    verdicts.add(ONE, "v", SCAN, 0.1)
    verdicts.add(TWO, "v", SCAN, 0.1)
    change(ledger, "UPDATE verdicts SET used = used - 400 * 86400")
    verdicts.find([ONE], "v")  # it is of use
    still = RetainedRows(present=set(), needed=set(), checked=set(), downloads=set(), files=set())
    now = ledger.database.select_one("SELECT max(used) FROM verdicts")[0]
    assert LedgerMaintenance(ledger).prune(still, now)["verdicts"] == 1
    assert verdicts.find([ONE, TWO], "v").keys() == {ONE}


def test_ledger_of_schema_2_is_migrated_to_keep_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as old, old:
        for step in schema.MIGRATIONS[:2]:
            old.executescript(step)
        old.execute("INSERT INTO downloads VALUES (?, 'kept', 1, 1, 1, 1)", (ONE.hex,))
        old.execute("PRAGMA user_version = 2")
    with closing(Ledger(path)) as new:
        ScanVerdicts(new).add(ONE, "v", SCAN, 0.1)
        assert ScanVerdicts(new).find([ONE], "v") == {ONE: SCAN}
        assert new.database.select_one("SELECT name FROM downloads") == ("kept",)
