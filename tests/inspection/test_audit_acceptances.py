"""Findings of an audit that stages accept."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.declare.audit_file import load_acceptances, parse_acceptances
from buildkit.errors import DefinitionError
from buildkit.findings import Finding, Rule, Severity
from buildkit.inspection.audit import AT_REST, RUNNING, Audit, accept_findings, render_audit

_KEY = Rule(id="private-key", title="a key", severity=Severity.CRITICAL, why="x", advice="y")
_SHELL = Rule(id="shell", title="a shell", severity=Severity.MEDIUM, why="x", advice="y")
_TEXT = """[[accept]]
rule = "private-key"
path = "opt/*/tests/*"
reason = "made for tests"
"""
_BOTH = {AT_REST: "", RUNNING: ""}


def key(path: str) -> Finding:
    return Finding(rule=_KEY, what="a private key", path=path)


def audit(*findings: Finding, parts: dict[str, str] = _BOTH) -> Audit:
    return accept_findings(Audit(name="app", findings=findings, parts=parts), parse_acceptances(_TEXT, "a.toml"))


def test_accepted_finding_is_shown_and_does_not_fail() -> None:
    result = audit(key("opt/x/tests/a.pem"))
    assert not result.closes(Severity.HIGH)
    assert result.findings == ()
    (entry,) = result.as_json(Severity.HIGH)["accepted"]
    assert (entry["path"], entry["reason"]) == ("opt/x/tests/a.pem", "made for tests")
    assert "accepted: private-key: opt/x/tests/a.pem (made for tests)" in render_audit(result, Severity.HIGH)


@pytest.mark.parametrize(
    "finding",
    [
        key("opt/x/a.pem"),
        key("srv/opt/x/tests/a.pem"),
        Finding(rule=_SHELL, what="a shell", path="opt/x/tests/sh"),
        Finding(rule=_KEY, what="50 more", path=""),
    ],
)
def test_other_rules_and_paths_still_fail(finding: Finding) -> None:
    result = audit(finding)
    assert result.findings == (finding,)
    assert result.closes(Severity.MEDIUM)


def test_acceptance_without_a_path_is_about_findings_of_no_file() -> None:
    acceptances = parse_acceptances('[[accept]]\nrule = "private-key"\nreason = "why"\n', "a.toml")
    about, inside = key(""), key("etc/a.pem")
    result = accept_findings(Audit(name="app", findings=(about, inside), parts=_BOTH), acceptances)
    assert (result.accepted, result.findings) == (((about, "why"),), (inside,))


def test_idle_acceptance_is_named_only_if_everything_was_examined() -> None:
    line = "nothing needs what a.toml accepts: private-key opt/*/tests/*"
    assert line in render_audit(audit(), None)
    assert line not in render_audit(audit(parts={AT_REST: ""}), None)
    assert line not in render_audit(audit(parts={AT_REST: "", RUNNING: "no podman"}), None)


def test_problems_of_the_file_are_named_together() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_acceptances('[[accept]]\nrule = "Private"\npath = "/etc/x"\nreason = " "\n', "a.toml")
    assert [problem.key for problem in caught.value.problems] == [
        "accept[0].rule", "accept[0].path", "accept[0].reason"
    ]  # fmt: skip


def test_files_of_all_parts_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "stages/base").mkdir(parents=True)
    (tmp_path / "stages/base/audit.toml").write_text(_TEXT)
    (found,) = load_acceptances(tmp_path, ("app", "base"))
    assert found.file == "stages/base/audit.toml"
    (tmp_path / "stages/base/audit.toml").write_bytes(b"\xff")
    with pytest.raises(DefinitionError, match="not UTF-8"):
        load_acceptances(tmp_path, ("base",))
