"""The static audit of the reference images: none in hardened, known findings in runtime, and no false alarm."""

from __future__ import annotations

import pytest

from tests.reference.builds import audit
from tests.reference.conftest import Project

pytestmark = [pytest.mark.tools, pytest.mark.network]


def test_hardened_has_no_findings_and_is_smaller(project: Project) -> None:
    code, found = audit(project.cache, "hardened", "--fail-on", "note")
    assert found["findings"] == []
    assert code == 0
    assert (found["user"], found["pinned"]) == ("65532:65532", "requirements/hardened.apt.lock")
    assert found["not_searched_to_the_end"] == 0


def test_runtime_has_only_findings_that_debian_causes(project: Project) -> None:
    code, found = audit(project.cache, "runtime")
    assert code == 1
    by_rule: dict[str, list[str]] = {}
    for finding in found["findings"]:
        by_rule.setdefault(finding["rule"], []).append(finding["path"])
    assert set(by_rule) == {"setuid-file", "shell", "package-manager", "interpreter", "user-by-name"}
    assert {"usr/bin/su", "usr/bin/passwd", "usr/bin/mount"} <= set(by_rule["setuid-file"])
