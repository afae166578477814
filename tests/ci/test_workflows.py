"""What runs in CI is well-formed, pinned and closed; checked by the tools of the `lint` group where they are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCRIPTS = [ROOT / "ci/bootstrap", ROOT / ".ci/run"]


def check(*argv: str | Path) -> None:
    tool = Path(sys.executable).with_name(str(argv[0]))
    assert tool.exists(), f"{argv[0]} is not installed: it comes with the `tests` group"
    ran = subprocess.run([tool, *argv[1:]], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_there_are_workflows() -> None:
    assert ROOT / ".github/workflows/ci.yml" in WORKFLOWS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_nothing_is_granted_at_the_top(path: Path) -> None:
    text = path.read_text()
    uses = re.findall(r"^\s*-?\s*uses:\s*(\S+)(.*)$", text, re.MULTILINE)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action, _ in uses)
    assert all(re.fullmatch(r"\s+# v\d+\.\d+\.\d+", comment) for _, comment in uses), "the release stands beside it"
    assert "\npermissions: {}\n" in text
    assert "\nconcurrency:\n" in text
    assert "secrets." not in text


def test_ci_runs_every_kind_of_check() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    assert "session: [lint, types, tests]" in text
    assert 'ci/bootstrap nox -s "$SESSION"' in text
    assert "run: .ci/run" in text


def test_workflows_fit_the_schema() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


def test_workflows_are_safe() -> None:
    check("zizmor", "--offline", "--quiet", "--no-progress", "--", *WORKFLOWS)


def test_scripts_pass_shellcheck() -> None:
    check("shellcheck", *SCRIPTS)
