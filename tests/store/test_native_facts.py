"""Facts about native files by blob, and findings by set of layers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from buildkit.digest import Digest, Key
from buildkit.native import NOTHING
from buildkit.native.facts import NativeFacts, encode_facts
from buildkit.store.ledger import Ledger
from buildkit.store.maintenance import LedgerMaintenance, RetainedRows

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
SET = Key.of(b"a set of layers")
YEAR = 365 * 86400.0


def test_native_facts_are_found_by_digest(ledger: Ledger) -> None:
    natives = ledger.natives
    natives.add(ONE, b"facts")
    natives.add(ONE, b"other facts")
    assert natives.find([ONE, TWO]) == {ONE: b"other facts"}


def test_find_equal_returns_blobs_without_natives(ledger: Ledger) -> None:
    natives = ledger.natives
    natives.add(ONE, encode_facts(NativeFacts()))
    natives.add(TWO, encode_facts(NativeFacts(links={"usr/lib/a.so": "b.so"})))
    assert natives.find_equal([ONE, TWO, Digest.of(b"unknown")], NOTHING) == {ONE}


def test_start_findings_are_found_also_if_empty(ledger: Ledger) -> None:
    assert ledger.starts.find(SET) is None
    ledger.starts.add(SET, [])
    assert ledger.starts.find(SET) == ()
    ledger.starts.add(SET, ["one", "two"])
    assert ledger.starts.find(SET) == ("one", "two")


@pytest.mark.parametrize("value", ["", "{", '"text"', "7", "[]", '["twp"]'])
def test_damaged_native_rows_count_as_absent(ledger: Ledger, tmp_path: Path, value: str) -> None:
    natives = ledger.natives
    ledger.starts.add(SET, ["one"])
    natives.add(ONE, b"facts")
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
        db.execute("UPDATE starts SET said = ?", (value,))
        db.execute("UPDATE natives SET facts = ?", (value,))
        db.commit()
    assert ledger.starts.find(SET) is None
    assert natives.find([ONE]) == {}
    natives.add(TWO, encode_facts(NativeFacts()))
    ledger.database.execute("UPDATE natives SET digest = ? WHERE digest = ?", (Digest.of(b"other").hex, TWO.hex))
    assert natives.find_equal([ONE, TWO, Digest.of(b"other")], NOTHING) == frozenset()


def test_prune_deletes_old_native_rows(ledger: Ledger) -> None:
    natives = ledger.natives
    ledger.starts.add(SET, ["one"])
    natives.add(ONE, b"facts")
    still = RetainedRows(present=(), needed=(), checked=(), downloads=(), files=())
    counts = LedgerMaintenance(ledger).prune(still, now=0)
    assert (counts["natives"], counts["starts"]) == (0, 0)
    ledger.database.execute("UPDATE natives SET at = ?", (-YEAR,))
    ledger.database.execute("UPDATE starts SET at = ?", (-YEAR,))
    counts = LedgerMaintenance(ledger).prune(still, now=0)
    assert (counts["natives"], counts["starts"]) == (1, 1)
