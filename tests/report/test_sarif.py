"""SARIF: valid by the official schema for any finding, with locations as in the standard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.findings import Finding, Rule, Severity
from buildkit.report.sarif import SarifRun, render_sarif

SCHEMA = json.loads((Path(__file__).parent / "schemas/sarif-schema-2.1.0.json").read_text("utf-8"))
RULE = Rule(
    id="pickle-calls",
    title="Loading this runs code",
    severity=Severity.CRITICAL,
    why="A pickle calls what it names.",
    advice="Do not load it; ask for safetensors.",
    references=("CVE-2025-1550", "https://docs.python.org/3/library/pickle.html", "CIS Docker Benchmark 4.1"),
)
MILD = Rule(id="odd-header", title="Odd", severity=Severity.LOW, why="w", advice="a")
FOUND = Finding(rule=RULE, what="calls os.system", path="models/x.pt", member="a.zip!b/data.pkl", offset=14)


def log_of(*findings: Finding, **more: Any) -> dict[str, Any]:
    value = json.loads(render_sarif(findings, SarifRun.of("scan-models", **more)))
    jsonschema.Draft4Validator(SCHEMA).validate(value)
    return value


def only(*findings: Finding, **more: Any) -> dict[str, Any]:
    (run,) = log_of(*findings, **more)["runs"]
    return run


def test_no_findings_give_a_run_without_results() -> None:
    run = only()
    assert run["results"] == []
    assert run["tool"]["driver"]["rules"] == []


def test_sarif_rule_has_help_level_and_score() -> None:
    (rule,) = only(FOUND)["tool"]["driver"]["rules"]
    assert rule["id"] == "pickle-calls"
    assert rule["defaultConfiguration"] == {"level": "error"}
    assert rule["properties"]["security-severity"] == "9.5"
    assert "external/cve/cve-2025-1550" in rule["properties"]["tags"]
    assert rule["helpUri"] == "https://nvd.nist.gov/vuln/detail/CVE-2025-1550"
    assert "ask for safetensors" in rule["help"]["text"]
    assert "[CVE-2025-1550](https://nvd.nist.gov/vuln/detail/CVE-2025-1550)" in rule["help"]["markdown"]
    assert "- CIS Docker Benchmark 4.1" in rule["help"]["markdown"]


def test_offset_in_a_file_is_a_byte_region() -> None:
    (result,) = only(Finding(rule=RULE, what="x", path="models/a b.bin", offset=7))["results"]
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "models/a%20b.bin"
    assert location["physicalLocation"]["artifactLocation"]["uriBaseId"] == "SRCROOT"
    assert location["physicalLocation"]["region"] == {"byteOffset": 7}
    assert "relatedLocations" not in result


def test_offset_in_an_archive_member_is_not_a_region_of_the_file() -> None:
    run = only(FOUND)
    (result,) = run["results"]
    (location,) = result["locations"]
    assert "region" not in location["physicalLocation"], "byte 14 is the member's, not the file's"
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "models/x.pt!a.zip!b/data.pkl"
    (inner,) = result["relatedLocations"]
    assert inner["physicalLocation"]["region"] == {"byteOffset": 14}
    index = inner["physicalLocation"]["artifactLocation"]["index"]
    assert run["artifacts"][index]["location"]["uri"] == "/b/data.pkl"
    outer = run["artifacts"][run["artifacts"][index]["parentIndex"]]
    assert outer["location"]["uri"] == "/a.zip"
    assert run["artifacts"][outer["parentIndex"]]["location"]["uri"] == "models/x.pt"
    assert result["message"]["text"] == "calls os.system (a.zip!b/data.pkl, byte 14)"


def test_sarif_level_follows_the_severity_of_the_finding() -> None:
    milder = Finding(rule=RULE, what="x", path="a", override=Severity.MEDIUM)
    run = only(milder, Finding(rule=MILD, what="y", path="b"))
    assert [one["level"] for one in run["results"]] == ["warning", "note"]
    names = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert [names[one["ruleIndex"]] for one in run["results"]] == [one["ruleId"] for one in run["results"]]


def test_fingerprints_ignore_offsets_and_are_unique() -> None:
    moved = Finding(rule=RULE, what=FOUND.what, path=FOUND.path, member=FOUND.member, offset=99)
    first, both = only(FOUND)["results"], only(moved, FOUND)["results"]
    prints = [one["partialFingerprints"]["finding/v1"] for one in both]
    assert prints[0] == first[0]["partialFingerprints"]["finding/v1"]
    assert len(set(prints)) == 2


def test_sarif_lists_hashes_of_clean_files_too() -> None:
    (artifact,) = only(hashes={"models/y.onnx": {"sha-256": "ab" * 32, "sha-512": "cd" * 64}})["artifacts"]
    assert artifact["hashes"] == {"sha-256": "ab" * 32, "sha-512": "cd" * 64}


def test_accepted_findings_are_suppressed_with_the_reason() -> None:
    (result,) = only(FOUND, accepted={FOUND: "reviewed by hand"})["results"]
    assert result["suppressions"] == [{"kind": "external", "justification": "reviewed by hand"}]


def test_absolute_paths_of_the_host_and_of_an_image_have_different_uris() -> None:
    absolute = Finding(rule=RULE, what="x", path="/etc/x")
    (host,) = only(absolute)["artifacts"]
    (image,) = only(absolute, inside=True, base="IMAGE", base_description="the image")["artifacts"]
    assert host["location"] == {"uri": "file:///etc/x"}
    assert image["location"] == {"uri": "etc/x", "uriBaseId": "IMAGE"}


def test_finding_without_a_path_is_located_at_the_subject() -> None:
    (result,) = only(Finding(rule=RULE, what="runs as root", path="", layer="sha256:1"), subject="localhost/x:1")[
        "results"
    ]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "localhost/x%3A1"
    assert result["properties"]["layer"] == "sha256:1"
    (bare,) = only(Finding(rule=RULE, what="x", path=""))["results"]
    assert bare["locations"] == []


@pytest.mark.parametrize("hostile", ["\x1b[31mred", "a\nb", "{0} [x](1)", "\udcff\ud800", "../../etc", "a!b"])
def test_foreign_text_forms_no_escape_placeholder_or_link(hostile: str) -> None:
    finding = Finding(rule=RULE, what=hostile, path=f"d/{hostile}", member=hostile, offset=0)
    text = render_sarif((finding,), SarifRun.of("scan-models"))
    assert "\\u001b" not in text
    json.dumps(json.loads(text), ensure_ascii=False).encode()  # no lone surrogates
    (result,) = only(finding)["results"]
    assert "{0}" not in result["message"]["text"].replace("{{0}}", "")
    assert "[x](1)" not in result["message"]["text"].replace("\\[x\\](1)", "")


@given(st.text(), st.text(), st.text(), st.none() | st.integers(0, 1 << 62))
def test_sarif_of_any_finding_is_valid(what: str, path: str, member: str, offset: int | None) -> None:
    log_of(Finding(rule=RULE, what=what, path=path, member=member, offset=offset))
