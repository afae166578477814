"""The console script: the sessions as commands, with the same options and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import buildkit
from buildkit.cli import build, console, push_models, run
from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS
from buildkit.declare.stage_file import stage_schema


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_lists_every_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: xoe-buildkit COMMAND [ARGUMENT …]"
    for name in {command.name for command in (*COMMANDS, *STAGE_COMMANDS)}:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1
    assert "(-- " not in "".join(lines)  # Nox separates the arguments of a session like this
    assert console.main([]) == 0


def test_version_is_that_of_the_installed_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.main(["--version"]) == 0
    assert capsys.readouterr().out == f"xoe-buildkit {version('xoe-buildkit')}\n"
    assert buildkit.__version__ == version("xoe-buildkit")


def test_command_runs_in_the_current_folder_and_returns_its_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.main(["schema", "stage.schema.json"]) == 0
    assert json.loads((folder / "stage.schema.json").read_text()) == stage_schema()
    assert console.main(["schema", "no/such/folder.json"]) == 2
    assert "no/such/folder.json: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "function", "expected"),
    [
        (["build"], "run", ([],)),
        (["build", "--frozen"], "run", (["--frozen"],)),
        (["build", "app", "--frozen"], "run_build", ("app", ["--frozen"])),
        (["push", "app", "localhost:5000/app"], "run_push", ("app", ["localhost:5000/app"])),
        (["push-app", "localhost:5000/app"], "run_push", ("app", ["localhost:5000/app"])),
    ],
)
def test_build_and_push_take_the_stage_as_first_argument(
    words: list[str], function: str, expected: tuple[object, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(build, function, lambda *arguments: calls.append(arguments))
    assert console.main(words) == 0
    assert calls == [(folder, *expected)]


def test_session_of_the_project_comes_before_that_of_a_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(push_models, "run", lambda *arguments: calls.append(arguments))
    assert console.main(["push-models", "localhost:5000/models", "--as", "modelpack"]) == 0
    assert calls == [(folder, ["localhost:5000/models", "--as", "modelpack"])]


def test_run_passes_the_exit_code_of_the_container(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run", lambda _folder, stage, arguments: 7 if (stage, arguments) == ("app", ["-x"]) else 0)
    assert console.main(["run", "app", "-x"]) == 7


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["fly"], "there is no command `fly`", "xoe-buildkit --help"),
        (["push"], "push: the stage is missing", "xoe-buildkit push STAGE"),
        (["run", "--print"], "run: the stage is missing", "xoe-buildkit run STAGE"),
        (["build", "--bogus"], "--bogus", "usage: xoe-buildkit build ["),
        (["build", "app", "--bogus"], "--bogus", "usage: xoe-buildkit build app ["),
        (["plan", "--bogus"], "--bogus", "usage: xoe-buildkit plan ["),
        (["cache", "gc", "--bogus"], "--bogus", "usage: xoe-buildkit cache"),
    ],
)
def test_wrong_arguments_exit_with_2_and_name_the_console_script(
    words: list[str], message: str, hint: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.main(words) == 2
    error, _, rest = capsys.readouterr().err.partition("\n")
    assert message in error
    assert hint in rest
    assert "nox" not in rest


def test_python_m_buildkit_is_the_console_script() -> None:
    done = subprocess.run((sys.executable, "-m", "buildkit", "--version"), capture_output=True, text=True, check=True)
    assert done.stdout == f"xoe-buildkit {version('xoe-buildkit')}\n"


@pytest.mark.parametrize("module", ["buildkit.cli", "buildkit.errors", "buildkit.cli.schema"])
def test_ctrl_c_while_it_is_imported_ends_the_console_script_with_one_line(module: str) -> None:
    scripts = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    place, _, function = scripts["xoe-buildkit"].partition(":")
    program = f"""
import os, signal, sys

class Presses:
    def find_spec(name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Presses)
from {place} import {function}
sys.exit({function}())
"""
    done = subprocess.run((sys.executable, "-c", program, "schema"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_importing_the_package_does_not_look_up_the_version() -> None:
    code = "import sys, buildkit; print('importlib.metadata' in sys.modules); print(buildkit.__version__)"
    done = subprocess.run((sys.executable, "-S", "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "False"


def test_project_is_the_nearest_folder_with_stages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stages/app/src").mkdir(parents=True)
    assert console.find_project(folder / "stages/app/src") == folder / "stages/app/src"
    (folder / "stages/app/stage.toml").write_text("")
    assert console.find_project(folder / "stages/app/src") == folder
    monkeypatch.chdir(folder / "stages/app")
    called: list[object] = []
    monkeypatch.setattr(build, "run_build", lambda *words: called.append(words))
    assert console.main(["build-app", "--frozen"]) == 0  # as the session is called
    assert called == [(folder, "app", ["--frozen"])]


def test_hints_name_the_console_script(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert console.main(["pln"]) == 2
    assert "hint: did you mean `plan`?" in capsys.readouterr().err
    assert console.main(["plan", "--nope"]) == 2
    assert "hint: usage: xoe-buildkit plan [" in capsys.readouterr().err


def test_process_that_ends_looks_for_no_garbage_in_what_it_imported() -> None:
    program = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 1000))  # runs after those that are registered later
from buildkit.cli.guard import guarded
guarded(lambda: print(gc.get_freeze_count()))
"""
    finished = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert finished.stdout == "0\nTrue\n"
