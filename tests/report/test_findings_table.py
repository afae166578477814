"""Findings for people: the worst first, each rule explained once, nothing foreign reaches a terminal."""

from __future__ import annotations

import pytest

from buildkit.findings import Finding, Rule, Severity
from buildkit.report.findings_table import (
    findings_json,
    format_finding_counts,
    format_location,
    parse_severity,
    render_findings,
)

BAD = Rule(
    id="calls", title="Calls", severity=Severity.CRITICAL, why="It runs.", advice="Delete it.", references=("CVE-1-2",)
)
ODD = Rule(id="odd", title="Odd", severity=Severity.LOW, why="Nobody writes this.", advice="Ask.")
FINDINGS = (
    Finding(rule=ODD, what="odd", path="z"),
    Finding(rule=BAD, what="calls a", path="x.pt", member="data.pkl", offset=3),
    Finding(rule=BAD, what="calls b", path="x.pt", member="data.pkl", offset=9),
)


def test_rule_is_explained_once_below_its_findings() -> None:
    assert render_findings(FINDINGS) == [
        "critical  calls: Calls",
        "          x.pt!data.pkl, byte 3: calls a",
        "          x.pt!data.pkl, byte 9: calls b",
        "          why: It runs.",
        "          do:  Delete it.",
        "          see: CVE-1-2",
        "",
        "low       odd: Odd",
        "          z: odd",
        "          why: Nobody writes this.",
        "          do:  Ask.",
    ]


def test_milder_findings_of_a_rule_show_their_severity() -> None:
    lines = render_findings((*FINDINGS, Finding(rule=BAD, what="names c", path="y", override=Severity.MEDIUM)))
    assert lines[3] == "          y: names c (medium)"
    assert len([line for line in lines if "why: It runs." in line]) == 1


def test_json_of_findings_has_every_field() -> None:
    first = findings_json(FINDINGS)[0]
    assert first["rule"] == "calls"
    assert (first["path"], first["member"], first["offset"]) == ("x.pt", "data.pkl", 3)
    assert (first["why"], first["advice"], first["references"]) == ("It runs.", "Delete it.", ["CVE-1-2"])


def test_format_finding_counts_and_locations() -> None:
    assert format_finding_counts(FINDINGS) == "3 findings (2 critical, 1 low)"
    assert format_finding_counts(()) == "no findings"
    assert format_location(Finding(rule=ODD, what="", path="a", layer="sha256:0123456789abcdef")) == (
        "a in layer 0123456789ab"
    )
    assert format_location(Finding(rule=ODD, what="", path="a\n\x1b[31mb\udcff")) == r"a b\udcff"


def test_parse_severity_reverses_format_severity() -> None:
    assert parse_severity("High") is Severity.HIGH
    with pytest.raises(ValueError, match="note, low, medium, high, critical"):
        parse_severity("bad")
