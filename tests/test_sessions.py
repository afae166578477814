"""The Nox sessions: which ones a noxfile gets, and how they end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nox as nox_module
import pytest

from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS
from buildkit.declare.stage_file import stage_schema

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.tools
STAGES = {
    "web": "# a comment\nsummary = 'serves'  \nfrom = \"base\"\nships = true\nconfig.cmd = ['serve']\n",
    "base": '[config]\nuser = "u"\n',
    "odd": 'this is = not [TOML\nsummary = "with \xff"',
}
HIDDEN = {"run-base", "push-base"}  # nothing to run, does not ship


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


LINE = re.compile(r"([*-]) ([\w.-]+)(?: -> (.+))?")


def listed(project: Path, noxfile: Path | None = None) -> dict[str, str]:
    """The sessions of a list, with their summaries."""
    done = nox(project, "-l", noxfile=noxfile)
    assert done.returncode == 0, done.stderr
    return {found[2]: found[3] or "" for line in done.stdout.splitlines() if (found := LINE.fullmatch(line))}


def write(project: Path, text: str) -> None:
    (project / "noxfile.py").write_text(f"import nox\nfrom buildkit.sessions import register\n\n{text}")


def test_every_stage_and_every_command_has_a_session_with_one_line_of_summary(project: Path) -> None:
    found = listed(project)
    assert {name: line for name, line in found.items() if name.startswith("build")} == {
        "build-base": "Build base: no summary",
        "build-odd": "Build odd: its stage file cannot be read",
        "build-web": "Build web: serves",
        "build": "Build every image that ships.",
    }
    every = {f"{command.name}-{stage}" for command in STAGE_COMMANDS for stage in STAGES}
    assert every - found.keys() == HIDDEN
    commands = {command.name: command.summary for command in COMMANDS if command.name != "bench-serve"}
    assert commands.items() <= found.items()
    assert len(found) == len(commands) + len(every) - len(HIDDEN)
    assert all(found.values())


def test_what_a_list_hides_works_and_is_listed_if_the_noxfile_mentions_it(project: Path) -> None:
    done = nox(project, "-s", "push-base")
    assert done.returncode == 2
    assert "usage: nox -s push-base --" in done.stderr
    assert nox(project, "-s", "push-base", "--usage", "push-base").stdout.startswith("Push base to a registry")
    write(project, "register()\n\n\n@nox.session(requires=['push-base'], python=False)\ndef all(session): ...\n")
    assert HIDDEN - listed(project).keys() == {"run-base"}


def test_the_measurement_of_the_reference_service_is_listed_where_that_is(project: Path) -> None:
    assert "bench-serve" not in listed(project)
    (project / "stages/runtime/app").mkdir(parents=True)
    (project / "stages/runtime/app/detector.py").touch()
    assert "bench-serve" in listed(project)


def test_none_of_the_sessions_runs_by_default(project: Path) -> None:
    plain = nox(project)
    assert plain.returncode == 0
    assert nox(project, "-l").stdout in plain.stdout  # Nox lists what there is, and runs nothing
    body = "    print('theirs ran')\n"
    write(project, f"register()\n\n\n@nox.session(python=False)\ndef mine(session):\n{body}")
    done = nox(project)
    assert (done.returncode, done.stdout) == (0, "theirs ran\n")
    assert re.findall("Running session (.*)", done.stderr) == ["mine"]


OWN = {
    "above": "@nox.session(python=False)\ndef lock(session):\n    'Theirs.'\n    print('theirs')\n\n\nregister()\n",
    "below": "register()\n\n\n@nox.session(python=False)\ndef lock(session):\n    'Theirs.'\n    print('theirs')\n",
    "by another name": (
        "from nox import session\nregister()\n\n\n"
        "@session(name='lock', python=False)\ndef f(session):\n    'Theirs.'\n    print('theirs')\n"
    ),
    "by a plugin": (
        "import nox as plugin\nregister()\n\n\n@plugin.session(python=False)\ndef lock(session):\n"
        "    'Theirs.'\n    print('theirs')\n"
    ),
    "on several Pythons": (
        "register()\n\n\n@nox.session(python=False)\n@nox.parametrize('x', [1])\ndef lock(session, x):\n"
        "    'Theirs.'\n    print('theirs')\n"
    ),
}


@pytest.mark.parametrize("noxfile", OWN.values(), ids=OWN)
def test_session_of_the_noxfile_is_never_replaced(noxfile: str, project: Path) -> None:
    write(project, noxfile)
    done = nox(project, "-s", "lock")
    assert (done.returncode, done.stdout) == (0, "theirs\n")
    assert "This noxfile defines lock, so buildkit's sessions of that name are missing" in done.stderr
    assert "already been registered" not in done.stderr  # Nox's warning, which is to become an error
    assert nox(project, "-s", "build-web").returncode == 2  # ours are there: the stage files are wrong


def test_prefix_and_only_choose_names_and_sessions(project: Path) -> None:
    write(project, OWN["above"].replace("register()", "register(prefix='image-', only=('lock', 'build', 'run'))"))
    kinds = {"image-build", "image-lock", "lock"}
    of_stages = {f"image-{name}-{stage}" for name in ("build", "run") for stage in STAGES} - {"image-run-base"}
    done = nox(project, "-l")
    assert listed(project).keys() == kinds | of_stages
    assert "missing" not in done.stderr
    done = nox(project, "-s", "image-build-web", "--", "--nope")
    assert "usage: nox -s image-build-web --" in done.stderr
    done = nox(project, "-s", "image-lock")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("only", ["'lock'", "['lokc']"])
def test_only_names_commands(only: str, project: Path) -> None:
    write(project, f"register(only={only})\n")
    done = nox(project, "-l")
    assert done.returncode != 0
    assert "register(only=…) is a list of commands, not lo" in done.stderr


SLIPS = {
    "-s build-wbe": "Did you mean build-web?",
    "-s build-web build-oddd": "Did you mean build-odd?",
    "--session=lokc": "Did you mean lock?",
    "-s push-web localhost:5999/x:1": "The arguments of a session follow `--`: nox -s push-web -- localhost:5999/x:1",
    "-s cache why abc": "The arguments of a session follow `--`: nox -s cache -- why abc",
    "-s plan web": "The arguments of a session follow `--`: nox -s plan -- web",
    "-s up production": "The arguments of a session follow `--`: nox -s up -- production",
    "-s build web": "The session of that stage is: nox -s build-web",
    "-s run web": "The session of that stage is: nox -s run-web",
    "-s push": "Did you mean push-base or push-models or push-odd or push-web?",
    "-s xyzzy": "nox -l lists the sessions.",
}


@pytest.mark.parametrize("words", SLIPS)
def test_unknown_session_is_answered_with_what_was_meant(words: str, project: Path) -> None:
    done = nox(project, *words.split())
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == SLIPS[words]
    assert re.fullmatch("nox > Sessions not found: .*", done.stderr.splitlines()[-2])


def test_known_session_is_not_commented(project: Path) -> None:
    done = nox(project, "-s", "schema")
    assert done.stderr.splitlines() == ["nox > Running session schema", "nox > Session schema was successful."]


def test_register_uses_the_folder_of_the_noxfile_or_the_one_that_is_given(project: Path) -> None:
    other = project.parent / "another" / "noxfile.py"
    other.parent.mkdir()
    other.write_text("from buildkit.sessions import register\n\nregister()\n")
    assert "build-base" not in listed(project, noxfile=other)
    other.write_text(f"from buildkit.sessions import register\n\nregister({str(project)!r})\n")
    assert "build-base" in listed(project, noxfile=other)


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


def test_uv_is_asked_for_its_version_only_by_sessions_that_may_need_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv, calls = tmp_path / "bin/uv", tmp_path / "calls"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\necho "$*" >> {calls}\necho \'{{"version": "0.13.0"}}\'\n')
    uv.chmod(0o755)
    monkeypatch.setenv("UV", str(uv))
    theirs = "@nox.session(venv_backend='uv|none')\ndef theirs(session): ..."
    write(project, f"register()\n\n\n{theirs}\n")
    assert nox(project, "-s", "schema").returncode == 0
    assert not calls.exists()
    nox(project, "-s", "theirs")
    asked, made = calls.read_text().splitlines()
    assert (asked.split()[:2], made.split()[0]) == (["self", "version"], "venv")


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


def test_noxfile_of_this_repository_names_what_makes_its_environment(tmp_path: Path) -> None:
    (tmp_path / "noxfile.py").write_bytes((ROOT / "noxfile.py").read_bytes())
    site = Path(nox_module.__file__).parents[1]
    program = "import sys; sys.path.append(sys.argv.pop(1)); from nox.__main__ import main; main()"
    without = tmp_path / "site"
    without.mkdir()
    for entry in site.iterdir():
        if "buildkit" not in entry.name:
            (without / entry.name).symlink_to(entry)
    argv = (sys.executable, "-S", "-c", program, str(without), "-s", "build-runtime", "--", "--frozen")
    done = subprocess.run(argv, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: this nox lacks the module buildkit",
        "hint: ci/bootstrap makes the environment: ci/bootstrap nox -s build-runtime -- --frozen",
    ]
