"""The static audit of the reference images: none in hardened, known findings in runtime, and no false alarm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.reference.builds import ROOT
from tests.reference.conftest import Project

pytestmark = [pytest.mark.tools, pytest.mark.network]


def audit(project: Project, stage: str, *options: str) -> tuple[int, dict[str, Any]]:
    argv = [sys.executable, "-m", "nox", "-s", "audit", "--", stage, "--at-rest", "--json", *options]
    env = dict(os.environ) | {"BUILDKIT_CACHE": str(project.cache)}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.startswith("{"), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_hardened_has_no_findings_and_is_smaller(project: Project) -> None:
    code, found = audit(project, "hardened", "--fail-on", "note")
    assert found["findings"] == []
    assert code == 0
    assert (found["user"], found["pinned"]) == ("65532:65532", "requirements/hardened.apt.lock")
    assert found["not_searched_to_the_end"] == 0


def test_runtime_has_only_findings_that_debian_causes(project: Project) -> None:
    code, found = audit(project, "runtime")
    assert code == 1
    by_rule: dict[str, list[str]] = {}
    for finding in found["findings"]:
        by_rule.setdefault(finding["rule"], []).append(finding["path"])
    assert set(by_rule) == {"setuid-file", "shell", "package-manager", "interpreter", "user-by-name"}
    assert {"usr/bin/su", "usr/bin/passwd", "usr/bin/mount"} <= set(by_rule["setuid-file"])
