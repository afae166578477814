"""The Nox sessions: which ones a noxfile gets, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS
from buildkit.declare.stage import stage_schema

pytestmark = pytest.mark.tools
STAGES = {
    "web": "# a comment\nsummary = 'serves'  \nfrom = \"base\"\n",
    "base": '[config]\nuser = "u"\n',
    "odd": 'this is = not [TOML\nsummary = "with \xff"',
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, text in STAGES.items():
        path = folder / "stages" / name / "stage.toml"
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode("latin-1"))
    (folder / "noxfile.py").write_text("from buildkit.sessions import register\n\nregister()\n")
    return folder


def nox(project: Path, *words: str, noxfile: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("NOX")}
    argv = (sys.executable, "-m", "nox", "--noxfile", str(noxfile or project / "noxfile.py"), *words)
    return subprocess.run(
        argv,
        cwd=project.parent,
        env=env | {"BUILDKIT_CACHE": str(project.parent / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def listed(project: Path, noxfile: Path | None = None) -> dict[str, str]:
    done = nox(project, "--list", "--json", noxfile=noxfile)
    assert done.returncode == 0, done.stderr
    return {found["session"]: found["description"] for found in json.loads(done.stdout)}


def test_every_stage_and_every_command_has_a_session_with_one_line_of_summary(project: Path) -> None:
    found = listed(project)
    assert {name: line for name, line in found.items() if name.startswith("build")} == {
        "build-base": "Build base: no summary",
        "build-odd": "Build odd: with �",
        "build-web": "Build web: serves",
        "build": "Build every image that ships.",
    }
    assert {f"{command.name}-{stage}" for command in STAGE_COMMANDS for stage in STAGES} <= found.keys()
    assert {command.name: command.summary for command in COMMANDS}.items() <= found.items()
    assert len(found) == len(COMMANDS) + len(STAGE_COMMANDS) * len(STAGES)
    assert all(line and "\n" not in line for line in found.values())


def test_unreadable_stage_file_is_listed_and_its_session_fails_without_traceback(project: Path) -> None:
    (project / "stages/wrong/stage.toml").mkdir(parents=True)
    assert listed(project)["build-wrong"] == "Build wrong: cannot be read"
    done = nox(project, "-s", "build-base")
    assert "Traceback" not in done.stderr


def test_register_uses_the_folder_of_the_noxfile_or_the_one_that_is_given(project: Path) -> None:
    other = project.parent / "another" / "noxfile.py"
    other.parent.mkdir()
    other.write_text("from buildkit.sessions import register\n\nregister()\n")
    assert "build-base" not in listed(project, other)
    other.write_text(f"from buildkit.sessions import register\n\nregister({str(project)!r})\n")
    assert "build-base" in listed(project, other)


HEAVY = (
    "rich",
    "sqlite3",
    "unearth",
    "zstandard",
    "buildkit.build",
    "buildkit.cli.guard",
    "buildkit.cli.options",
    "buildkit.declare",
    "buildkit.inspection",
    "buildkit.oci",
    "buildkit.plan",
    "buildkit.report",
    "buildkit.store",
    "buildkit.tools",
)


def test_listing_sessions_imports_no_heavy_module(project: Path) -> None:
    assert [name for name in HEAVY if find_spec(name) is None] == []  # else their absence would prove nothing
    program = f"import sys\nimport buildkit.sessions\nbuildkit.sessions.register({str(project)!r})\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "buildkit.sessions" in imported
    assert imported & set(HEAVY) == set()


def test_wrong_definition_exits_with_2_and_reports_every_problem(project: Path) -> None:
    done = nox(project, "-s", "build-web")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "stages/base/stage.toml: `summary`: is missing" in done.stderr
    assert "stages/odd/stage.toml: is not UTF-8 text" in done.stderr
    assert not (project.parent / "cache").exists()


def test_wrong_option_exits_with_2_and_prints_the_usage(project: Path) -> None:
    done = nox(project, "-s", "build", "--", "--no-such-option")
    assert done.returncode == 2
    assert "no-such-option" in done.stderr
    assert "usage: nox -s build --" in done.stderr


def test_schema_is_printed_or_written_relative_to_the_noxfile(project: Path) -> None:
    text = json.dumps(stage_schema(), indent=2) + "\n"
    done = nox(project, "-s", "schema")
    assert (done.returncode, done.stdout) == (0, text)
    done = nox(project, "-s", "schema", "--", "stage.schema.json")
    assert (done.returncode, done.stdout) == (0, "")
    assert (project / "stage.schema.json").read_text() == text
    done = nox(project, "-s", "schema", "--", "no/such/folder.json")
    assert done.returncode == 2
    assert "no/such/folder.json: No such file or directory" in done.stderr
