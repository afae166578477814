"""The real uv audits pins against a fake advisory service; an incomplete answer is an error."""

import json

import pytest

from buildkit.errors import FetchError
from buildkit.tools import auditor
from buildkit.tools.auditor import Vulnerability, audit
from buildkit.tools.process import CommandResult
from tests.tools.advisories import serve_advisories

NOBODY = "http://127.0.0.1:1/"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CONFIG", "1")


def test_advisories_are_reported_and_every_pin_is_audited():
    pins = [("alpha", "1.0"), ("alpha", "2.0+cpu"), ("beta", "1!0.5rc1"), ("alpha", "1.0")]
    with serve_advisories({("alpha", "2.0"): ["GHSA-x"]}) as service:
        found = audit(pins, "3.13", service=service.url)
    assert sorted(service.asked) == [("alpha", "1.0"), ("alpha", "2.0"), ("beta", "1!0.5rc1")]
    (one,) = found
    assert (one.id, one.name, one.version, one.aliases) == ("GHSA-x", "alpha", "2.0", ("CVE-2019-0001",))
    assert one.fixed == ("9.9",)
    assert one.link.endswith("GHSA-x")


def test_no_advisories_give_an_empty_result():
    with serve_advisories({}) as service:
        assert audit([("alpha", "1.0")], "3.13", service=service.url) == ()


def test_audit_without_pins_does_not_run_uv():
    assert audit([], "3.13", service=NOBODY) == ()


def test_unreachable_advisory_service_is_an_error():
    with pytest.raises(FetchError, match="could not check") as caught:
        audit([("alpha", "1.0")], "3.13", service=NOBODY)
    assert "not a pass" in caught.value.hint
    assert "refused" in caught.value.message


def test_offline_audit_is_an_error(monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(FetchError, match=r"could not check .* network"):
        audit([("alpha", "1.0")], "3.13")


def test_answer_of_a_different_service_is_an_error():
    with serve_advisories({}, broken=True) as service, pytest.raises(FetchError, match="could not check"):
        audit([("alpha", "1.0")], "3.13", service=service.url)


ANSWER = {"summary": {"audited_packages": 1}, "vulnerabilities": [], "adverse_statuses": []}
KNOWN = {"dependency": {"name": "a", "version": "1"}, "id": "PYSEC-1", "display_id": "GHSA-1", "aliases": ["CVE-1"]}


def answered(monkeypatch, value, code=0, stderr=b""):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    monkeypatch.setattr(auditor, "run", lambda _command: CommandResult(code=code, stdout=text, stderr=stderr))
    return audit([("a", "1")], "3.13")


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (b"", 0, "cannot be read"),
        ([], 0, "cannot be read"),
        ({"summary": {"audited_packages": 1}}, 0, "cannot be read"),
        (ANSWER | {"summary": {"audited_packages": 0}}, 0, "looked at 0 of 1"),
        (ANSWER, 1, "differ"),
        (ANSWER | {"vulnerabilities": [KNOWN]}, 0, "differ"),
    ],
)
def test_incomplete_answer_is_an_error(monkeypatch, value, code, words):
    with pytest.raises(FetchError, match=words):
        answered(monkeypatch, value, code)


def test_uv_without_audit_is_reported(monkeypatch):
    with pytest.raises(FetchError, match="newer one is needed"):
        answered(monkeypatch, b"", 2, b"error: unrecognized subcommand 'audit'\n")


def test_project_marked_by_its_index_is_reported(monkeypatch):
    marked = {"dependency": {"name": "a", "version": "1"}, "status": "quarantined", "reason": "malware"}
    found = answered(monkeypatch, ANSWER | {"vulnerabilities": [KNOWN], "adverse_statuses": [marked]}, 1)
    assert found == (
        Vulnerability(id="GHSA-1", name="a", version="1", aliases=("CVE-1", "PYSEC-1")),
        Vulnerability(id="quarantined", name="a", version="1", summary="malware"),
    )
