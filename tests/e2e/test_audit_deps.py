"""`nox -s audit-deps`: advisories for the pins of a project, from a fake service."""

from __future__ import annotations

import json

import pytest

from tests.e2e.tinyproject import SessionResult, Tiny
from tests.tools.advisories import serve_advisories

pytestmark = pytest.mark.tools

NOBODY = "http://127.0.0.1:1/"
FAST = {"UV_HTTP_RETRIES": "0"}


def answer(ended: SessionResult) -> dict[str, object]:
    value: dict[str, object]
    value, _ = json.JSONDecoder().raw_decode(ended.text[ended.text.index("{") :])
    return value


def test_known_vulnerability_exits_with_1_and_names_the_lock(tiny: Tiny) -> None:
    with serve_advisories({("alpha", "1.0"): ["GHSA-x"], ("beta", "1.0"): ["GHSA-y"]}) as service:
        asked = ("--service", service.url)
        ended = tiny.run("audit-deps", *asked)
        assert ended.code == 1
        assert "requirements/app.txt: alpha 1.0" in ended.text
        assert "take 9.9 or later: nox -s lock -- --upgrade" in ended.text
        assert "2 known vulnerabilities" in ended.text
        assert "\x1b[31m" not in ended.text
        assert "not checked: 1 image of a registry" in ended.text
        one = answer(tiny.run("audit-deps", "--json", "--ignore", "GHSA-y", *asked))
        assert one["outcome"] == "vulnerable"
        both = tiny.run("audit-deps", "app", "--ignore", "CVE-2019-0001", *asked)  # an alias of both
        assert both.code == 0, both.text
        assert "ignored: GHSA-x of alpha 1.0" in both.text
    assert set(service.asked) >= {("alpha", "1.0"), ("beta", "1.0")}


def test_unreachable_advisory_service_exits_with_1(tiny: Tiny) -> None:
    ended = tiny.run("audit-deps", "--json", "--service", NOBODY, **FAST)
    assert ended.code == 1
    found = answer(ended)
    assert (found["outcome"], found["checked"], found["vulnerabilities"]) == ("could-not-check", [], [])
    assert "could not check" in str(found["why"])
    assert "hint: this is not a pass" in ended.text
    assert "Traceback" not in ended.text


def test_clean_answer_exits_with_0(tiny: Tiny) -> None:
    with serve_advisories({}) as service:
        ended = tiny.run("audit-deps", "--json", "--service", service.url)
    assert (ended.code, answer(ended)["outcome"]) == (0, "clean")
