"""Files that forges, editors and contributors read: they are well-formed, and what they name exists."""

from __future__ import annotations

import configparser
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.ci.runner import read_yaml
from tests.ci.test_workflows import check

ROOT = Path(__file__).resolve().parents[2]
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PAGES = ("CONTRIBUTING.md", "SECURITY.md")


def test_issue_forms_fit_the_schema() -> None:
    assert FORMS
    check("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", *FORMS)
    check("check-jsonschema", "--builtin-schema", "vendor.github-issue-config", FORMS[0].with_name("config.yml"))


def test_dependabot_fits_the_schema_and_groups_weekly_updates() -> None:
    path = ROOT / ".github/dependabot.yml"
    check("check-jsonschema", "--builtin-schema", "vendor.dependabot", path)
    updates = read_yaml(path)["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "pip"}
    assert all(update["schedule"] == {"interval": "weekly"} and update["groups"] for update in updates)
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates), "not on the day of a release"


def test_pre_commit_runs_the_tools_of_lint_and_types() -> None:
    (local,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    entries = " ".join(hook["entry"] for hook in local["hooks"])
    noxfile = (ROOT / "noxfile.py").read_text("utf-8")
    tools = {"ruff", "lint-imports", "mypy", "codespell", "check-words"}
    assert {tool for tool in tools if tool not in entries or tool not in noxfile} == set()
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    names = {re.split(r"[<>=\[ ]", entry)[0] for entry in groups["lint"]}
    assert names >= {"ruff", "import-linter", "mypy", "codespell"}


def test_editorconfig_has_the_line_length_of_ruff() -> None:
    parser = configparser.ConfigParser()
    parser.read_string("[top]\n" + (ROOT / ".editorconfig").read_text("utf-8"))
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]
    assert parser["*"].getint("max_line_length") == ruff["line-length"]


def test_blame_ignores_commits_by_hash_and_subject() -> None:
    text = (ROOT / ".git-blame-ignore-revs").read_text("utf-8")
    entries = re.findall(r"^# (.+)\n([0-9a-f]{40})$", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[^#\s]", text, re.MULTILINE)) >= 2
    for subject, commit in entries:
        shown = subprocess.run(["git", "show", "-s", "--format=%s", commit], cwd=ROOT, capture_output=True, text=True)
        if shown.returncode:
            pytest.skip("this checkout lacks the history")
        assert shown.stdout.strip() == subject


def test_line_that_installs_from_git_names_the_project_itself() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    for page in ("README.md", "docs/adopt.md"):
        lines = re.findall(r"^pip install '(.*)'$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
        assert lines == [f"xoe-buildkit @ git+{urls['GitHub']}"]
    assert all(url.startswith(urls["GitHub"]) for url in urls.values())


def test_agents_read_the_guide_for_contributors() -> None:
    assert (ROOT / "AGENTS.md").read_text("utf-8") == (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    named = set(re.findall(r"`([\w.-]+/[\w./-]*|[A-Z]+\.md|\.[a-z-]+(?:\.yaml)?)`", text))
    invented = {"buildkit/scan/formats/toy.py", "buildkit/cli/stages.py"}
    missing = {name for name in named - invented if not ((ROOT / name).exists() or (ROOT / "buildkit" / name).exists())}
    assert missing <= {".venv"}
