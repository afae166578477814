"""Arguments and surroundings that are wrong: one line that says what, an exit code, and no traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from buildkit.build.context import cache_folder
from buildkit.cli import build, lock
from buildkit.cli.guard import guarded
from buildkit.cli.options import parse_build_options
from buildkit.errors import BuildError, DefinitionError
from buildkit.report.output_files import write_text


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5"])
def test_jobs_are_a_number_from_one_on(number: str) -> None:
    with pytest.raises(DefinitionError, match="--jobs: must be a number from 1 on") as caught:
        parse_build_options([f"--jobs={number}"])
    assert "_positive" not in caught.value.message
    assert "\n" not in caught.value.hint


@pytest.mark.parametrize("argument", ["--upgrade=3", "--bogus", "stray"])
def test_wrong_arguments_of_lock_are_a_wrong_definition(argument: str, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=argument.lstrip("-").partition("=")[0]):
        lock.run(tmp_path, [argument])


@pytest.mark.parametrize("name", ["no/such/report.json", "."])
def test_a_report_that_cannot_be_written_is_said_before_the_work(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stages").write_text("reading this would be another error")
    assert guarded(lambda: build.run_build(tmp_path, "x", ["--json", str(tmp_path / name)])) == 2
    assert "this file cannot be written" in capsys.readouterr().err


def test_what_the_system_refuses_is_said_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: len((tmp_path / "gone").read_bytes())) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/gone: No such file or directory\n"


def test_an_error_about_no_file_is_a_defect() -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input"):
        guarded(fail)


def test_a_full_disk_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "x")

    assert guarded(fail) == 1
    assert capsys.readouterr().err == "error: the disk is full\nhint: free some room\n"


def test_a_file_that_was_asked_for_is_there_wholly_or_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "report.json"
    write_text(file, "old")
    write_text(file, "new")
    assert file.read_text() == "new"

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(BuildError, match=r"report\.json: the disk is full") as caught:
        write_text(file, "newer")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "new"


def test_a_report_may_go_to_a_device_or_through_a_link(tmp_path: Path) -> None:
    write_text(Path("/dev/null"), "x")
    assert Path("/dev/null").is_char_device()
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "target").read_text() == "x"
    with pytest.raises(BuildError, match="/dev/full: the disk is full"):
        write_text(Path("/dev/full"), "x")


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_reader_that_has_seen_enough_is_no_defect(
    size: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``nox -s plan | head -1`` leaves early, whether or not all of it was written by then."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert guarded(lambda: print("x" * size)) == 141
        monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_another_broken_pipe_is_a_defect() -> None:
    def fail() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        guarded(fail)


def test_what_an_action_says_is_the_exit_code() -> None:
    assert guarded(lambda: None) == 0
    assert guarded(lambda: 3) == 3


def test_the_cache_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILDKIT_CACHE", "a/cache")
    assert cache_folder() == tmp_path / "a/cache"
    monkeypatch.setenv("BUILDKIT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/xoe-buildkit"


@pytest.mark.parametrize(("said", "what"), [("~no-such-user-here/x", "home folder"), ("/tmp/a:b", "colon")])
def test_a_cache_that_cannot_be(monkeypatch: pytest.MonkeyPatch, said: str, what: str) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", said)
    with pytest.raises(BuildError, match=what) as caught:
        cache_folder()
    assert "BUILDKIT_CACHE" in caught.value.hint
